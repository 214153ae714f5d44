"""The cost of the swarm on one PC: donors in processes of their own on loopback against
``transformers.generate`` in one process, and parts of that cost.

    python -m benchmarks.loopback [--quick] [--only NAME …] [--pairs N] [--minutes M] [--out DIR]

All of it takes about 40 minutes; each row is written as soon as it is there. ``--only`` measures some
rows anew and leaves the others. ``--quick`` is a smoke test: a few samples of everything, written
nowhere unless ``--out`` says where.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from benchmarks.checkpoints import random_weights
from benchmarks.children import Child, child
from benchmarks.command import Asked
from benchmarks.measure import (
    Bar,
    Contender,
    Interval,
    Others,
    Results,
    Row,
    Run,
    Timing,
    common_rate,
    readers,
    rounds,
    same_ids,
    whole_rate,
)
from benchmarks.swarm_of_workers import Dtype, Swarm, split, workers
from core.model.config import ModelConfig, read_config
from core.paths import bundled_model, code

NOTES = """\
Donors are worker processes on loopback, the client is the benchmark's own process, transformers and the
engine alone are a process each; all with the number of threads that the row names. Contenders take turns
(A B A B …) on the same prompts, one answer of a fixed number of tokens each, greedy, without a stop. Tokens
a second are of decoding alone, on all sides: tokens after the first, over the time since the first. A ratio
is taken within each round; the table has its median and the interval of order statistics that holds
the median with at least 95 %; a bar is met when that whole interval is on its right side.
*Same tokens* is the part of the rounds in which both sides gave the same tokens throughout.
Prompts are random tokens; speculation is off. 560m is BLOOM-560m's shape with a vocabulary of 32,768 and
random weights; toy is the bundled model (hidden 256, 8 blocks)."""

DONORS = 3
READERS = 8


@dataclass(frozen=True)
class Scale:
    """How much is measured: ``few`` rounds where there is no bar, ``reader_pairs`` of eight readers, whose
    rounds take half a minute."""

    pairs: int
    few: int
    reader_pairs: int
    prompt: int
    long_prompt: int
    tokens: int
    """New tokens of an answer in the 560m shape."""
    toy_tokens: int
    reader_tokens: int
    loops: int
    """Loops of hivemind's bare ring."""
    seconds: float = math.inf
    """After so long a row begins no other round."""


FULL = Scale(30, 7, 30, prompt=128, long_prompt=1024, tokens=24, toy_tokens=64, reader_tokens=64, loops=500)
QUICK = Scale(2, 1, 1, prompt=128, long_prompt=1024, tokens=8, toy_tokens=32, reader_tokens=32, loops=100)


@dataclass(frozen=True)
class Setting:
    """What is served how. Benchmarks of one setting share its processes."""

    model: str
    """``toy``, or a shape of ``checkpoints``."""
    dtype: Dtype
    threads: int = 1


class Stand:
    """The contenders of one setting, started when first asked for."""

    def __init__(self, setting: Setting, scale: Scale, folder: Path, stack: AsyncExitStack) -> None:
        self.setting, self.scale, self.folder = setting, scale, folder
        self.config: ModelConfig = read_config(folder)
        self._stack = stack
        self._chance = random.Random(0)
        self._children: dict[str, Child] = {}
        self._swarms: dict[int, Swarm] = {}

    async def reference(self) -> Child:
        return await self._child("benchmarks.reference")

    async def engine(self) -> Child:
        return await self._child("benchmarks.engine_alone")

    async def swarm(self, donors: int) -> Swarm:
        if donors not in self._swarms:
            spans = split(self.config.layers, donors)
            starting = workers(self.folder, spans, dtype=self.setting.dtype, threads=self.setting.threads)
            self._swarms[donors] = await self._stack.enter_async_context(starting)
        return self._swarms[donors]

    async def _child(self, module: str) -> Child:
        if module not in self._children:
            starting = child(module, self.folder, dtype=self.setting.dtype, threads=self.setting.threads)
            self._children[module] = await self._stack.enter_async_context(starting)
        return self._children[module]

    def prompts(self, count: int, length: int) -> list[list[int]]:
        """Random tokens, special ones left out."""
        return [[self._chance.randrange(4, self.config.vocab) for _ in range(length)] for _ in range(count)]

    def row(self, name: str, what: str, value: Interval, unit: str = "×", **more: object) -> Row:
        return Row(name, what, unit, value, self.setting.threads, self.setting.dtype, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def stand(setting: Setting, scale: Scale, folder: Path) -> AsyncIterator[Stand]:
    """``folder`` is where checkpoints are made."""
    toy = setting.model == "toy"
    model = bundled_model() if toy else await random_weights(setting.model, folder)
    async with AsyncExitStack() as stack:
        yield Stand(setting, scale, model, stack)


# What is measured


async def against_transformers(stand: Stand, name: str) -> list[Row]:
    """One and three donors against ``transformers.generate``."""
    scale, toy = stand.scale, stand.setting.model == "toy"
    limit = {("toy", "float32", 1): 0.8, ("560m", "bfloat16", 1): 1.0}.get(
        (stand.setting.model, stand.setting.dtype, stand.setting.threads)
    )
    contenders: dict[str, Contender] = {
        "transformers": await stand.reference(),
        "1 donor": await stand.swarm(1),
        f"{DONORS} donors": await stand.swarm(DONORS),
    }
    if limit is not None:
        contenders["engine alone"] = await stand.engine()
    pairs = scale.few if limit is None else scale.pairs
    tokens = scale.toy_tokens if toy else scale.tokens
    timings = await rounds(contenders, stand.prompts(pairs, scale.prompt), tokens, scale.seconds)
    theirs = timings["transformers"]
    rows = []
    for donors in (1, DONORS):
        contender = f"{donors} donor{'s' * (donors > 1)}"
        ours = timings[contender]
        rows.append(
            stand.row(
                name,
                f"{stand.setting.model}: {contender} on loopback, against transformers.generate",
                Interval.of(a.rate / b.rate for a, b in zip(ours, theirs, strict=True)),
                bar=Bar(limit) if limit is not None and donors > 1 else None,
                beside={
                    f"{contender}, tokens/s": _median(timing.rate for timing in ours),
                    "transformers, tokens/s": _median(timing.rate for timing in theirs),
                    "same tokens": same_ids(ours, theirs),
                },
                bound=_shares(timings, contender) if limit is not None else "",
            )
        )
    return rows


def _shares(timings: Mapping[str, Sequence[Timing]], contender: str) -> str:
    steps = {name: _median(timing.step * 1e3 for timing in timings[name]) for name in timings}
    pairs = zip(timings[contender], timings["engine alone"], strict=True)
    ring = Interval.of((ours.step - alone.step) * 1e3 for ours, alone in pairs)
    return (
        f"a token takes {steps[contender]:.2f} ms, the same engine and layers alone "
        f"{steps['engine alone']:.2f} ms, so the ring adds {ring.median:.2f} ms "
        f"({ring.low:.2f} to {ring.high:.2f}); transformers takes {steps['transformers']:.2f} ms"
    )


async def added_by_a_stage(stand: Stand, name: str) -> list[Row]:
    """What n processes take longer than the same engine and layers in one, a stage; hivemind's bare ring
    in the same run."""
    one, three, alone = f"{name} 1", f"{name} {DONORS}", "alone"
    contenders: dict[str, Contender] = {
        alone: await stand.engine(),
        one: await stand.swarm(1),
        three: await stand.swarm(DONORS),
    }
    scale = stand.scale
    prompts = stand.prompts(scale.pairs, scale.prompt)
    timings = await rounds(contenders, prompts, scale.toy_tokens, scale.seconds)
    bare = await _bare_ring(stand.scale.loops)
    took = {kind: _median(timing.step for timing in timings[kind]) * 1e3 for kind in timings}
    rows = []
    for donors, kind in ((1, one), (DONORS, three)):
        pairs = zip(timings[kind], timings[alone], strict=True)
        rows.append(
            stand.row(
                name,
                f"time added a token and stage, {donors} process{'es' * (donors > 1)}, 2 KiB",
                Interval.of((ours.step - base.step) * 1e3 / donors for ours, base in pairs),
                "ms",
                bar=Bar(1.0, at_least=False) if donors > 1 else None,
                beside={
                    "a token, ms": took[kind],
                    "engine alone, ms": took[alone],
                    "same tokens": same_ids(timings[kind], timings[alone]),
                },
                bound=f"hivemind's bare ring takes {bare.median:.3f} ms of each hop" if donors > 1 else "",
            )
        )
    return [*rows, stand.row(name, "hivemind's bare ring, a hop, 2 KiB", bare, "ms")]


async def _bare_ring(loops: int) -> Interval:
    """The median of three rings, each the median of its loops."""
    hops = []
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.bare_ring",
            "--loops",
            str(loops),
            cwd=code(),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        hops.append(json.loads(out.splitlines()[-1])["bytes"]["2048"]["hop_us"] / 1e3)
    return Interval.of(hops)


async def many_readers(stand: Stand, name: str) -> list[Row]:
    """Eight readers at once against one, all in this process."""
    swarm, scale = await stand.swarm(DONORS), stand.scale
    singles: list[list[Timing]] = []
    many: list[list[Timing]] = []
    busy: list[float] = []
    until = time.monotonic() + scale.seconds
    for number in range(scale.reader_pairs + 1):
        if number > 1 and time.monotonic() > until:
            break
        prompts = stand.prompts(READERS, scale.prompt)
        single = await readers(swarm, prompts[:1], scale.reader_tokens)
        cpu, started = swarm.cpu_seconds(), time.perf_counter()
        together = await readers(swarm, prompts, scale.reader_tokens)
        if number:
            busy.append((swarm.cpu_seconds() - cpu) / (time.perf_counter() - started))
            singles.append(single)
            many.append(together)
    round_of_one = 1e3 / _median(common_rate(single) for single in singles)
    round_of_all = 1e3 * READERS / _median(common_rate(together) for together in many)
    bound = (
        f"a round of {READERS} takes {round_of_all:.1f} ms, of one {round_of_one:.1f} ms; while "
        f"{READERS} read, all processes of the swarm together used {_median(busy):.2f} cores"
    )
    rows = []
    for what, rate, bar in (
        ("decoding", common_rate, Bar(4.0)),
        # Prompts are bound by arithmetic, of which eight need eight times as much.
        ("prompts included", whole_rate, None),
    ):
        pairs = zip(many, singles, strict=True)
        rows.append(
            stand.row(
                name,
                f"{READERS} readers at once against 1, tokens/s in all, {what}",
                Interval.of(rate(together) / rate(single) for together, single in pairs),
                bar=bar,
                beside={
                    f"{READERS} readers, tokens/s": _median(map(rate, many)),
                    "1 reader, tokens/s": _median(map(rate, singles)),
                    "routes changed": float(swarm.moves),
                },
                bound=bound if bar else "",
            )
        )
    return rows


async def first_token(stand: Stand, name: str) -> list[Row]:
    """A long prompt's first token, opening the session included."""
    scale = stand.scale
    contenders: dict[str, Contender] = {
        "transformers": await stand.reference(),
        "ours": await stand.swarm(DONORS),
    }
    timings = await rounds(contenders, stand.prompts(scale.few, scale.long_prompt), 2, scale.seconds)
    pairs = list(zip(timings["ours"], timings["transformers"], strict=True))
    return [
        stand.row(
            name,
            f"first token of a {scale.long_prompt:,}-token prompt, {DONORS} donors",
            Interval.of(ours.first for ours, _ in pairs),
            "s",
            beside={
                "transformers, s": _median(theirs.first for _, theirs in pairs),
                "ratio": _median(ours.first / theirs.first for ours, theirs in pairs),
            },
        )
    ]


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


Measure = Callable[[Stand, str], Awaitable[list[Row]]]

_BF16 = Setting("560m", "bfloat16")
BENCHMARKS: dict[str, tuple[Setting, Measure]] = {
    "toy": (Setting("toy", "float32"), against_transformers),
    "560m-bfloat16": (_BF16, against_transformers),
    "readers": (_BF16, many_readers),
    "first-token": (_BF16, first_token),
    "560m-float32": (Setting("560m", "float32"), against_transformers),
    "stage": (Setting("thin", "float32"), added_by_a_stage),
    "toy-2-threads": (Setting("toy", "float32", 2), against_transformers),
    "560m-2-threads": (Setting("560m", "bfloat16", 2), against_transformers),
}
"""By name, those of one setting one after the other."""


async def run(names: Sequence[str], scale: Scale, results: Results, run_: Run) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for setting, group in groupby(names, key=lambda name: BENCHMARKS[name][0]):
            async with stand(setting, scale, Path(folder)) as here:
                for name in group:
                    print(f"{name} …", file=sys.stderr, flush=True)
                    started, others = time.monotonic(), Others()
                    rows = await BENCHMARKS[name][1](here, name)
                    taken = {"cores taken by others": others.cores()}
                    results.put([replace(row, beside={**row.beside, **taken}) for row in rows], run_)
                    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    asked = Asked.of("loopback", __doc__, BENCHMARKS, argv)
    scale = asked.scale(FULL, QUICK)
    if asked.pairs:
        scale = replace(scale, reader_pairs=asked.pairs)
    asked.measure("Loopback", NOTES, "loopback", partial(run, asked.names, scale))


if __name__ == "__main__":
    main()
