"""The wide area: donors and client on hosts of their own, an internet in user space between them.

    python -m benchmarks.wide_area [--quick] [--only NAME …] [--pairs N] [--out DIR]

Needs root. ``--only`` measures some rows anew and leaves the others. ``--quick`` is a smoke test: a few
samples, written nowhere unless ``--out`` says where.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from benchmarks.checkpoints import random_weights
from benchmarks.children import Child, child
from benchmarks.internet.network import Host, Internet
from benchmarks.measure import (
    Bar,
    Contender,
    Interval,
    Results,
    Row,
    Run,
    Timing,
    readers,
    rounds,
    same_ids,
)
from benchmarks.swarm_of_workers import Dtype, split
from benchmarks.wide_area.paced import Pace
from benchmarks.wide_area.swarm import CLIENT, Place, WideSwarm, wide_swarm
from core.errors import IdlebloomError
from core.model.config import read_config
from core.paths import code
from core.swarm.loop import new_event_loop
from core.terms import Sampling, Span, Token

NOTES = """\
Every donor is a worker process, and the client this process, on a host of its own: a network namespace with
one device. One process (`benchmarks/internet/router.py`) carries the packets between hosts and gives each its
rates, delay and queue; `python -m benchmarks.internet` measures it beside what it was told. Every host has
the rate that the row names, both ways; the delay is one way between any two hosts. Packets are of 1,500
bytes, at 1 Gbit/s of 9,000. TCP is CUBIC as Linux has it, first window and slow start after idleness
included. Greedy, one thread a process, speculation off unless the row is about it. Steps are tokens after
the first; a step's time is the mean of an answer's, and a row's value the median over answers.
*Chain alone* is the same engine with all layers in one process, without a network, in the same rounds; the
*bound* is that and one delay a stage. *emulated*: around a small real model, a batch takes
max(step, row × rows) + step / 100 × (readers - 1) seconds, the same for every donor of a row. 560m is
BLOOM-560m's shape with a vocabulary of 32,768 and random weights, long 12 blocks of hidden 512: 2 KiB an
activation both, where BLOOM-176B has 28.7 KB."""

DONORS = 3
READERS = 8
AHEAD = 24
"""Timed steps at a position."""


@dataclass(frozen=True)
class Net:
    mbit: float
    delay_ms: float
    """One way, between any two hosts."""
    mtu: int = 1500

    def host(self, name: str) -> Host:
        return Host(name, self.mbit, self.mbit, self.delay_ms / 2)

    def __str__(self) -> str:
        rate = f"{self.mbit / 1000:g} Gbit/s" if self.mbit >= 1000 else f"{self.mbit:g} Mbit/s"
        return f"{rate}, {2 * self.delay_ms:g} ms round trip"


NEAR_FAST = Net(1000, 2, mtu=9000)
NEAR = Net(100, 2)
FAR = Net(100, 50)


@dataclass(frozen=True)
class Scale:
    pairs: int
    few: int
    tokens: int
    positions: tuple[int, ...]


FULL = Scale(pairs=30, few=4, tokens=12, positions=(64, 128, 512, 1024, 1984))
QUICK = Scale(pairs=2, few=1, tokens=6, positions=(64, 128))


@dataclass(frozen=True)
class Bench:
    """What a benchmark needs: how much to measure, where checkpoints are made, and made-up prompts."""

    scale: Scale
    folder: Path
    chance: Random

    def prompts(self, count: int, length: int, vocab: int) -> list[list[int]]:
        return [[self.chance.randrange(4, vocab) for _ in range(length)] for _ in range(count)]


@dataclass(frozen=True)
class Stand:
    net: Internet
    swarm: WideSwarm
    layers: int
    vocab: int
    alone: Child | None


@asynccontextmanager
async def stand(
    bench: Bench,
    link: Net,
    shape: str,
    dtype: Dtype,
    places: Sequence[Place],
    *,
    alone: bool = False,
    hosts: Sequence[Host] = (),
) -> AsyncIterator[Stand]:
    folder = await random_weights(shape, bench.folder)
    config = read_config(folder)
    async with AsyncExitStack() as stack:
        one = None
        if alone:
            one = await stack.enter_async_context(
                child("benchmarks.engine_alone", folder, dtype=dtype, threads=1)
            )
        names = dict.fromkeys((CLIENT, *(place.host for place in places)))
        special = {host.name: host for host in hosts}
        linked = [special.get(name) or link.host(name) for name in names]
        net = await stack.enter_async_context(Internet(linked, mtu=link.mtu))
        swarm = await stack.enter_async_context(wide_swarm(net, folder, places, dtype=dtype, threads=1))
        yield Stand(net, swarm, config.layers, config.vocab, one)


async def _layers(bench: Bench, shape: str) -> int:
    return read_config(await random_weights(shape, bench.folder)).layers


def _places(spans: Sequence[Span], pace: Pace | None = None) -> list[Place]:
    return [Place(f"s{number}", span, pace=pace) for number, span in enumerate(spans, 1)]


def thirds(layers: int) -> list[Place]:
    """Three donors with a near-equal part of the layers each."""
    return _places(split(layers, DONORS))


# What is measured


async def ring(bench: Bench, name: str) -> list[Row]:
    """A token over three distant donors against the chain alone and three delays."""
    places = thirds(await _layers(bench, "560m"))
    async with stand(bench, FAR, "560m", "bfloat16", places, alone=True) as here:
        assert here.alone is not None
        contenders: dict[str, Contender] = {"alone": here.alone, "ours": here.swarm}
        carried = await here.net.cpu_seconds()
        started = time.monotonic()
        timings = await rounds(
            contenders, bench.prompts(bench.scale.pairs, 64, here.vocab), bench.scale.tokens
        )
        router = (await here.net.cpu_seconds() - carried) / (time.monotonic() - started)
    wire = DONORS * FAR.delay_ms / 1e3
    ours, alone = timings["ours"], timings["alone"]
    token, compute = _median(t.step for t in ours), _median(t.step for t in alone)
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


async def first_token(bench: Bench, name: str) -> list[Row]:
    """A long prompt's first token with chunks and in one piece, emulated and real."""
    rows = []
    layers = {shape: await _layers(bench, shape) for shape in ("long", "560m")}
    for shape, dtype, pace, pairs in (
        ("long", "float32", Pace(0.19, 0.0013, 0.0019), bench.scale.few * 2 + 1),
        ("560m", "bfloat16", None, bench.scale.few),
    ):
        spans = split(layers[shape], DONORS)
        async with stand(bench, FAR, shape, dtype, _places(spans, pace)) as here:  # type: ignore[arg-type]
            hosts = [place.host for place in _places(spans)]
            contenders: dict[str, Contender] = {
                "chunks": here.swarm,
                "whole": here.swarm.view(hosts, here.swarm.config.max_length),
            }
            try:
                timings = await rounds(contenders, bench.prompts(pairs, 1024, here.vocab), 2)
            except RuntimeError as error:
                print(f"{name}, {shape}: {error}", file=sys.stderr)
                continue
        pairs_ = list(zip(timings["chunks"], timings["whole"], strict=True))
        rows.append(
            Row(
                name,
                f"{_shape(shape, pace)}, {DONORS} donors, {FAR}: first token of a 1,024-token prompt, "
                "in chunks of 128 against in one piece",
                "×",
                Interval.of(ours.first / whole.first for ours, whole in pairs_),
                1,
                dtype,
                Bar(0.5, at_least=False),
                {
                    "in chunks, s": _median(ours.first for ours, _ in pairs_),
                    "in one piece, s": _median(whole.first for _, whole in pairs_),
                },
                "the engine cuts a piece of 1,024 rows in two, so in one piece there is some overlap, too"
                + ("; three real stages share this machine's cores" if pace is None else ""),
            )
        )
    return rows


async def speculation(bench: Bench, name: str) -> list[Row]:
    """The tail's proposals, on text that repeats itself and on text that does not."""
    spans = split(await _layers(bench, "long"), DONORS)
    places = [*_places(spans), Place("s4", spans[-1], speculate=True)]
    rows = []
    async with stand(bench, FAR, "long", "float32", places) as here:
        off, on = here.swarm.view(["s1", "s2", "s3"]), here.swarm.view(["s1", "s2", "s4"])
        for what, sampling, bar, pairs in (
            ("greedy, which repeats itself", Sampling(), 2.0, bench.scale.few * 2 + 1),
            (
                "drawn at temperature 1, which repeats nothing",
                Sampling(temperature=1.0),
                0.97,
                bench.scale.pairs,
            ),
        ):
            contenders: dict[str, Contender] = {"off": Drawn(off, sampling), "on": Drawn(on, sampling)}
            timings = await rounds(contenders, bench.prompts(pairs, 64, here.vocab), 32)
            both = list(zip(timings["on"], timings["off"], strict=True))
            rows.append(
                Row(
                    name,
                    f"long, {DONORS} donors, {FAR}: speculation on against off, tokens/s, text {what}",
                    "×",
                    Interval.of(a.rate / b.rate for a, b in both),
                    1,
                    "float32",
                    Bar(bar),
                    {
                        "on, tokens/s": _median(a.rate for a, _ in both),
                        "off, tokens/s": _median(b.rate for _, b in both),
                        "same tokens": same_ids(timings["on"], timings["off"]),
                    },
                )
            )
    return rows


@dataclass(frozen=True)
class Drawn:
    """A swarm's answers drawn otherwise than greedily; the seed is the prompt's."""

    swarm: WideSwarm
    sampling: Sampling

    async def answer(self, ids: Sequence[int], count: int) -> Timing:
        session = self.swarm.session()
        sampling = replace(self.sampling, seed=sum(ids))
        asked, times, tokens = time.perf_counter(), [], []
        try:
            async for event in session.answer(ids, sampling, count, frozenset()):
                if isinstance(event, Token):
                    times.append(time.perf_counter())
                    tokens.append(event.token_id)
        finally:
            session.close()
        if len(tokens) != count:
            raise RuntimeError(f"{len(tokens)} of {count} tokens came")
        return Timing(asked, tuple(times), tuple(tokens))


# The pace of the reference: 0.58 s a token over all of BLOOM-176B, 1.3 ms a row and third of it.
_WHOLE_STEP, _WHOLE_ROW = 0.57, 0.0039
_REFERENCE = {(3, NEAR_FAST): 1.71, (3, NEAR): 1.66, (3, FAR): 1.23, (12, NEAR_FAST): 1.24, (12, FAR): 0.57}
"""Petals' steps a second at position 128 in its authors' table."""


def paced(donors: int) -> Pace:
    """Each donor's share of the reference's computing."""
    return Pace(_WHOLE_STEP / donors, _WHOLE_ROW / donors, _WHOLE_STEP / donors / 100)


def emulated(donors: int, link: Net) -> Callable[[Bench, str], Awaitable[list[Row]]]:
    """Many donors at the reference's pace: one reader alone, and eight at once."""

    async def measure(bench: Bench, name: str) -> list[Row]:
        pace, layers = paced(donors), await _layers(bench, "long")
        async with stand(bench, link, "long", "float32", _places(split(layers, donors), pace)) as here:
            busy, started = here.swarm.cpu_seconds(), time.monotonic()
            alone, many = [], []
            for number in range(min(bench.scale.few, 5) + 1):
                prompts = bench.prompts(READERS, 128, here.vocab)
                single = await here.swarm.answer(prompts[0], AHEAD // 2)
                together = await readers(here.swarm, prompts, AHEAD)
                if number:
                    alone.append(single)
                    many.append(together)
            used = (here.swarm.cpu_seconds() - busy) / (time.monotonic() - started)
        token = _median(timing.step for timing in alone)
        bound = donors * (pace.step + link.delay_ms / 1e3)
        # While all decode: from the last one's first token to the first one's last.
        slow = [max(_step_together(timings, timing) for timing in timings) for timings in many]
        theirs = _REFERENCE.get((donors, link))
        what = f"{_shape('long', pace)}, {donors} donors, {link}"
        share = (
            f"of a token's {token * 1e3:.0f} ms, {donors * pace.step * 1e3:.0f} are declared computing, "
            f"{donors * link.delay_ms:.0f} delays, {(token - bound) * 1e3:.0f} the rest "
            f"({(token - bound) / donors * 1e3:.1f} a hop); all processes used {used:.2f} cores"
        )
        beside = {"a token, ms": token * 1e3, "bound, ms": bound * 1e3, "token / bound": token / bound}
        if theirs is not None:
            beside |= {"Petals on BLOOM-176B (28.7 KB an activation), steps/s": theirs}
        return [
            Row(
                name,
                f"{what}: 1 reader at 128",
                "steps/s",
                Interval.of(t.rate for t in alone),
                1,
                "float32",
                None,
                beside,
                share,
            ),
            Row(
                name,
                f"{what}: the slowest of {READERS} readers at once, a token against 1 reader's",
                "×",
                Interval.of(most / one.step for most, one in zip(slow, alone, strict=True)),
                1,
                "float32",
                Bar(1.1, at_least=False) if donors == 12 and link == FAR else None,
                {"declared for a batch of 8": 1 + 7 * pace.session / pace.step},
            ),
        ]

    return measure


# As in the reference: 2 RTX 3060, 4 2080 Ti, 2 3090, 2 A4000, 4 A5000, here with made-up links. A donor's
# rate in Mbit/s, delay to the middle in ms, part of packets that are lost, and time against the mean.
_UNEQUAL = (
    (100, 8, 0.002, 1.5), (200, 45, 0.005, 1.5), (100, 12, 0.001, 1.2), (500, 40, 0.001, 1.2),
    (1000, 9, 0.001, 1.2), (100, 50, 0.010, 1.2), (300, 15, 0.002, 0.8), (1000, 42, 0.001, 0.8),
    (100, 10, 0.003, 1.1), (500, 48, 0.002, 1.1), (1000, 7, 0.001, 0.7), (100, 44, 0.005, 0.7),
    (200, 14, 0.002, 0.7), (1000, 46, 0.001, 0.7),
)  # fmt: skip


async def fourteen(bench: Bench, name: str) -> list[Row]:
    """Donors of unequal speed on unequal links that lose packets."""
    base = paced(len(_UNEQUAL))
    spans = split(await _layers(bench, "long"), len(_UNEQUAL))
    places, hosts = [], []
    for number, (span, (mbit, delay, loss, share)) in enumerate(zip(spans, _UNEQUAL, strict=True), 1):
        pace = Pace(base.step * share, base.row * share, base.session * share)
        places.append(Place(f"s{number}", span, pace=pace))
        hosts.append(Host(f"s{number}", mbit, mbit, delay, jitter_ms=2, loss=loss))
    async with stand(bench, FAR, "long", "float32", places, hosts=hosts) as here:
        prompts = bench.prompts(bench.scale.few, 128, here.vocab)
        timings = [await here.swarm.answer(ids, AHEAD) for ids in prompts]
    token = _median(timing.step for timing in timings)
    compute, ways = (
        base.step * sum(share for *_, share in _UNEQUAL),
        2 * sum(d for _, d, *_ in _UNEQUAL) / 1e3,
    )
    return [
        Row(
            name,
            "*emulated*, 14 unequal donors, 100 to 1,000 Mbit/s, 7 to 50 ms to the middle, 0.1 to 1 % loss: "
            "1 reader at 128",
            "steps/s",
            Interval.of(timing.rate for timing in timings),
            1,
            "float32",
            None,
            {"a token, ms": token * 1e3, "Petals, its own 14 donors, steps/s": 0.83},
            f"of a token's {token * 1e3:.0f} ms, {compute * 1e3:.0f} are declared computing, "
            f"{ways * 1e3:.0f} delays, {(token - compute - ways) * 1e3:.0f} the rest: jitter, losses, hops",
        )
    ]


def _step_together(all_: Sequence[Timing], timing: Timing) -> float:
    """Seconds a token of one reader while all of them decode."""
    start = max(other.times[0] for other in all_)
    end = min(other.times[-1] for other in all_)
    times = [at for at in timing.times if start <= at <= end]
    if len(times) < 3:
        raise ValueError("the readers hardly decoded at the same time: ask for more tokens")
    return (times[-1] - times[0]) / (len(times) - 1)


def three(link: Net) -> Callable[[Bench, str], Awaitable[list[Row]]]:
    """Three real donors at several positions."""

    async def measure(bench: Bench, name: str) -> list[Row]:
        spans = split(await _layers(bench, "560m"), DONORS)
        rows = []
        async with stand(bench, link, "560m", "bfloat16", _places(spans), alone=True) as here:
            assert here.alone is not None
            contenders: dict[str, Contender] = {"alone": here.alone, "ours": here.swarm}
            for position in bench.scale.positions:
                count = min(bench.scale.few, 5 if position < 500 else 3)
                prompts = bench.prompts(count, position, here.vocab)
                timings = await rounds(contenders, prompts, AHEAD + 1)
                rows.append(_at_position(name, link, position, timings))
            prompts = bench.prompts(READERS, 128, here.vocab)
            many = [await readers(here.swarm, prompts, AHEAD * 2) for _ in range(2)][1]
        rate = sum(1 / _step_together(many, timing) for timing in many)
        what = f"560m, {DONORS} donors, {link}: {READERS} readers at 128, in all"
        return [*rows, Row(name, what, "steps/s", Interval.of([rate]), 1, "bfloat16")]

    return measure


def _at_position(name: str, link: Net, position: int, timings: dict[str, list[Timing]]) -> Row:
    ours, alone = timings["ours"], timings["alone"]
    token, compute = _median(t.step for t in ours), _median(t.step for t in alone)
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
            "first token, s": _median(t.first for t in ours),
            "chain alone, s": _median(t.first for t in alone),
        },
    )


def _shape(shape: str, pace: Pace | None) -> str:
    if pace is None:
        return shape
    return f"*emulated* (step {pace.step * 1e3:.1f} ms, row {pace.row * 1e3:.2f} ms)"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


Measure = Callable[[Bench, str], Awaitable[list[Row]]]

BENCHMARKS: dict[str, Measure] = {
    "ring": ring,
    "first-token": first_token,
    "speculation": speculation,
    "12-100-100": emulated(12, FAR),
    "12-1000-4": emulated(12, NEAR_FAST),
    "12-100-4": emulated(12, NEAR),
    "14-unequal": fourteen,
    "3-emulated-100-100": emulated(3, FAR),
    "3-1000-4": three(NEAR_FAST),
    "3-100-4": three(NEAR),
    "3-100-100": three(FAR),
}


async def run(names: Sequence[str], scale: Scale, results: Results, run_: Run) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            started = time.monotonic()
            try:
                results.put(await BENCHMARKS[name](Bench(scale, Path(folder), Random(0)), name), run_)
            except (IdlebloomError, RuntimeError, ValueError) as error:  # other rows are of use all the same
                print(f"{name}: {error}", file=sys.stderr, flush=True)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    words = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wide_area", description=words)
    parser.add_argument("--quick", action="store_true", help="a few samples of everything")
    parser.add_argument(
        "--only", nargs="+", choices=list(BENCHMARKS), metavar="NAME", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--pairs", type=int, help="rounds of the rows that have a bar")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results)")
    arguments = parser.parse_args(argv)
    scale = QUICK if arguments.quick else FULL
    if arguments.pairs:
        scale = replace(scale, pairs=arguments.pairs)
    folder = arguments.out or (None if arguments.quick else code() / "benchmarks" / "results")
    results = Results("Wide area", NOTES, folder, "wide_area")
    names = [name for name in BENCHMARKS if not arguments.only or name in arguments.only]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(run(names, scale, results, Run.here(quick=arguments.quick)))
    print(results.markdown())


if __name__ == "__main__":
    main()
