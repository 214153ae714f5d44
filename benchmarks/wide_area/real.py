"""Rows of three real donors: a token against its bound, positions, eight readers, prompts all at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.measure import Bar, Contender, Interval, Row, Timing, readers, rounds, same_ids
from benchmarks.wide_area.stand import (
    AHEAD,
    DONORS,
    FAR,
    READERS,
    Bench,
    Net,
    Stand,
    layers_of,
    median,
    stand,
    step_together,
    thirds,
)

SEQUENCES = (1, 64)
"""Prompts of 128 tokens that are read at once: the reference's *parallel forward*."""


async def ring(bench: Bench, name: str) -> list[Row]:
    """A token over three distant donors against the chain alone and three delays."""
    places = thirds(await layers_of(bench, "560m"))
    async with stand(bench, FAR, "560m", "bfloat16", places, alone=True) as here:
        assert here.alone is not None
        contenders: dict[str, Contender] = {"alone": here.alone, "ours": here.swarm}
        carried = await here.net.cpu_seconds()
        started = time.monotonic()
        prompts = bench.prompts(bench.scale.pairs, 64, here.vocab)
        timings = await rounds(contenders, prompts, bench.scale.tokens, bench.part(1), bench.until)
        router = (await here.net.cpu_seconds() - carried) / (time.monotonic() - started)
    wire = DONORS * FAR.delay_ms / 1e3
    ours, alone = timings["ours"], timings["alone"]
    if not ours:
        return []
    token, compute = median(t.step for t in ours), median(t.step for t in alone)
    return [
        Row(
            name,
            f"560m, {DONORS} donors, {FAR}: a token against (chain alone + {DONORS} delays)",
            "×",
            Interval.of(a.step / (b.step + wire) for a, b in zip(ours, alone, strict=True)),
            1,
            "bfloat16",
            Bar(1.15, at_least=False),
            {
                "steps/s": 1 / token,
                "a token, ms": token * 1e3,
                "chain alone, ms": compute * 1e3,
                "same tokens": same_ids(ours, alone),
            },
            f"of a token's {token * 1e3:.1f} ms, {compute * 1e3:.1f} are computing as measured alone, "
            f"{wire * 1e3:.0f} delays, {(token - compute - wire) * 1e3:.1f} the rest: sending 2 KiB "
            f"twice a hop ({2 * DONORS * 2150 * 8 / FAR.mbit / 1e3:.1f} ms), frames, streams, drawing; "
            f"the router used {router:.0%} of a core",
        )
    ]


def three(link: Net) -> Callable[[Bench, str], Coroutine[Any, Any, list[Row]]]:
    """Three real donors at several positions, then eight readers, then prompts all at once."""

    async def measure(bench: Bench, name: str) -> list[Row]:
        rows: list[Row] = []
        places = thirds(await layers_of(bench, "560m"))
        async with stand(bench, link, "560m", "bfloat16", places, alone=True) as here:
            assert here.alone is not None
            contenders: dict[str, Contender] = {"alone": here.alone, "ours": here.swarm}
            parts = len(bench.scale.positions) + 1 + len(SEQUENCES)
            for done, position in enumerate(bench.scale.positions):
                count = min(bench.scale.few, 5 if position < 500 else 3)
                prompts = bench.prompts(count, position, here.vocab)
                seconds = bench.part(parts - done)
                timings = await rounds(contenders, prompts, AHEAD + 1, seconds, bench.until)
                if timings["ours"]:
                    rows.append(_at_position(name, link, position, timings))
            rows += await _many(bench, here, name, link)
            for count in SEQUENCES:
                rows += await _prompts(bench, here, name, link, count)
        return rows

    return measure


async def _many(bench: Bench, here: Stand, name: str, link: Net) -> list[Row]:
    moved = here.swarm.moves
    prompts = [bench.prompts(READERS, 128, here.vocab) for _ in range(bench.scale.few + 1)]
    found = await bench.each(partial(readers, here.swarm, eight, AHEAD * 2) for eight in prompts)
    rates = [sum(1 / step_together(timings, timing) for timing in timings) for timings in found[1:]]
    if not rates:
        return []
    what = f"560m, {DONORS} donors, {link}: {READERS} readers at 128, in all"
    beside = {"routes changed": float(here.swarm.moves - moved)}
    return [Row(name, what, "steps/s", Interval.of(rates), 1, "bfloat16", None, beside)]


async def _prompts(bench: Bench, here: Stand, name: str, link: Net, count: int) -> list[Row]:
    what = f"560m, {DONORS} donors, {link}"
    return await prompts_at_once(bench, here, Row(name, what, "", Interval.of([0.0]), 1, "bfloat16"), count)


async def prompts_at_once(bench: Bench, here: Stand, row: Row, count: int) -> list[Row]:
    """Prompt tokens a second of so many prompts of 128 tokens, from asking to the last first token; ``row``
    says the rest."""
    moved = here.swarm.moves
    prompts = [bench.prompts(count, 128, here.vocab) for _ in range(min(bench.scale.few, 3) + 1)]
    found = await bench.each(partial(readers, here.swarm, some, 1) for some in prompts)
    rates = [_prompt_rate(timings, 128 * count) for timings in found[1:]]
    if not rates:
        return []
    return [
        replace(
            row,
            what=f"{row.what}: prompts of 128 tokens, {count} at once",
            unit="tokens/s",
            value=Interval.of(rates),
            beside={"routes changed": float(here.swarm.moves - moved)},
        )
    ]


def _prompt_rate(timings: Sequence[Timing], tokens: int) -> float:
    start, end = min(t.asked for t in timings), max(t.times[0] for t in timings)
    return tokens / (end - start)


def _at_position(name: str, link: Net, position: int, timings: dict[str, list[Timing]]) -> Row:
    ours, alone = timings["ours"], timings["alone"]
    token, compute = median(t.step for t in ours), median(t.step for t in alone)
    wire = DONORS * link.delay_ms / 1e3
    return Row(
        name,
        f"560m, {DONORS} donors, {link}: 1 reader at {position:,}",
        "steps/s",
        Interval.of(t.rate for t in ours),
        1,
        "bfloat16",
        None,
        {
            "a token, ms": token * 1e3,
            "of it computing": compute * 1e3,
            "delays": wire * 1e3,
            "the rest": (token - compute - wire) * 1e3,
            "token / bound": token / (compute + wire),
            "first token, s": median(t.first for t in ours),
            "chain alone, s": median(t.first for t in alone),
        },
    )
