"""What donors on a GPU answer, with the small model that comes along: the text that a CPU gives, also where a
conversation branches or a donor takes on layers meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from benchmarks.gpu.scale import BLOOM, SCALE
from benchmarks.measure import Bar, Interval, Row
from benchmarks.swarm_of_workers import GREEDY, Dtype, Swarm, split, workers
from core.model.config import read_config
from core.model.quantize import Quantization
from core.paths import bundled_model
from core.routing.session import Session
from core.terms import Sampling, Span, Token

DONORS = 3
TOKENS = 60
READ_ON = 1500 if SCALE is BLOOM else 200
"""Tokens of an answer under which a donor takes on layers."""
SAMPLED = Sampling(temperature=0.9, top_p=0.9, repetition_penalty=1.1, seed=7)
KINDS: tuple[tuple[Dtype, Quantization], ...] = (
    ("float32", Quantization.NONE),
    ("bfloat16", Quantization.NONE),
    ("bfloat16", Quantization.INT8),
    ("bfloat16", Quantization.NF4),
)


def asked(vocab: int) -> list[list[int]]:
    chance = Random(2)
    return [[chance.randrange(4, vocab) for _ in range(length)] for length in (5, 40, 300)]


async def serving_rows(_files: Path) -> AsyncGenerator[Row]:
    folder = bundled_model()
    config = read_config(folder)
    prompts = asked(config.vocab)
    async with workers(folder, (Span(0, config.layers),), dtype="float32", threads=2) as swarm:
        wanted = await answers(swarm, prompts)
    with tempfile.TemporaryDirectory(prefix="gpu-serving-") as made:
        for dtype, kind in KINDS:
            more = {
                "device": SCALE.device,
                "quantization": str(kind),
                "store": f"{made}/store",
                "cache": f"{made}/device",
            }
            spans = split(config.layers, DONORS)
            async with workers(folder, spans, dtype=dtype, threads=2, more=more) as swarm:
                yield _alike(await answers(swarm, prompts), wanted, dtype, kind)
                if kind is Quantization.NONE and dtype == "float32":
                    yield await branching(swarm, prompts)
                if kind is Quantization.NF4:
                    yield await resizing(swarm, prompts)


async def answers(swarm: Swarm, prompts: Sequence[list[int]]) -> list[tuple[int, ...]]:
    """Greedy and drawn, and then all of them at once: the same texts again."""
    alone = [await _read(swarm.session(), ids, how) for ids in prompts for how in (GREEDY, SAMPLED)]
    both = await asyncio.gather(
        *(_read(swarm.session(), ids, how) for ids in prompts for how in (GREEDY, SAMPLED))
    )
    return [*alone, *both]


async def _read(
    session: Session, ids: Sequence[int], how: Sampling, *, keep: bool = False
) -> tuple[int, ...]:
    try:
        answer = session.answer(ids, how, TOKENS, frozenset())
        return tuple([one.token_id async for one in answer if isinstance(one, Token)])
    finally:
        if not keep:
            session.close()


def _same(one: Sequence[int], other: Sequence[int]) -> float:
    """The part of tokens before the first that differs."""
    first = next((at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))
    return first / len(one)


def _alike(
    found: list[tuple[int, ...]], wanted: list[tuple[int, ...]], dtype: Dtype, kind: Quantization
) -> Row:
    parts = [_same(one, other) for one, other in zip(found, wanted, strict=True)]
    half = len(found) // 2
    together = statistics.fmean(one == two for one, two in zip(found[:half], found[half:], strict=True))
    exact = dtype == "float32" and kind is Quantization.NONE
    return Row(
        f"text-{dtype}-{kind}",
        f"{DONORS} donors on one GPU, the bundled model, {dtype}, {kind}: tokens before the first that "
        f"differs from a CPU's in float32, of {len(wanted)} answers of {TOKENS}, greedy and drawn",
        "",
        Interval.of([statistics.fmean(parts)]),
        2,
        f"{dtype}, {kind}",
        Bar(1.0) if exact else None,
        {"answers alike": statistics.fmean(part == 1 for part in parts), "alone as at once": together},
    )


async def branching(swarm: Swarm, prompts: Sequence[list[int]]) -> Row:
    """A question asked again in a session that takes over what another has run, while a third reads on."""
    ids = prompts[-1]
    first, second = swarm.session(), swarm.session()
    answer = await _read(first, ids, GREEDY, keep=True)
    branch = [*ids, *answer[:20], *prompts[0]]
    other = asyncio.create_task(_read(swarm.session(), prompts[1], GREEDY))
    await asyncio.sleep(0.05)
    shared = first.alike(branch)
    second.take_over(first, branch)
    found = await _read(second, branch, GREEDY)
    first.close()
    fresh = await _read(swarm.session(), branch, GREEDY)
    untouched = await other == await _read(swarm.session(), prompts[1], GREEDY)
    return Row(
        "branch",
        f"{DONORS} donors on one GPU: a branch that takes over another's cache reads as one that runs anew, "
        "and a reader beside it reads on",
        "",
        Interval.of([float(found == fresh and untouched)]),
        2,
        "float32",
        Bar(1.0),
        {"positions taken over": shared, "of": len(branch)},
    )


async def resizing(swarm: Swarm, prompts: Sequence[list[int]]) -> Row:
    """The entry takes on two layers under an answer."""
    ids = prompts[1]
    reading = asyncio.create_task(swarm.answer(ids, READ_ON))
    await asyncio.sleep(0.3)
    donor = swarm.donors[0]
    records = await swarm.look()
    span = Span(records[0].span.start, records[0].span.end + 2)
    resized = await donor.resize(span)
    timing = await reading
    await swarm.look()
    again = await swarm.answer(ids, READ_ON)
    gaps = [after - before for before, after in pairwise(timing.times)]
    return Row(
        "resize",
        f"a donor on a GPU takes on 2 layers under an answer of {READ_ON} tokens: the reader's longest wait",
        "s",
        Interval.of([max(gaps)]),
        2,
        "bfloat16, nf4",
        None,
        {
            "median, ms": 1e3 * statistics.median(gaps),
            "layers served then": float(len(resized.span)),
            "tokens before the text differs": _same(timing.ids, again.ids) * READ_ON,
        },
        resized.trouble,
    )
