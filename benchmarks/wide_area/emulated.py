"""Rows of many donors at a declared pace: readers, positions, prompts, unequal donors, links that idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from benchmarks.internet.network import Host
from benchmarks.measure import Bar, Contender, Interval, Row, Timing, readers
from benchmarks.swarm_of_workers import split
from benchmarks.wide_area.paced import Pace
from benchmarks.wide_area.real import SEQUENCES, prompts_at_once
from benchmarks.wide_area.stand import (
    AHEAD,
    DONORS,
    FAR,
    NEAR,
    NEAR_FAST,
    READERS,
    Bench,
    Net,
    called,
    layers_of,
    median,
    places_for,
    stand,
    step_together,
)
from benchmarks.wide_area.swarm import Place

Measure = Callable[[Bench, str], Coroutine[Any, Any, list[Row]]]

# The pace of the reference: 0.58 s a token over all of BLOOM-176B, 1.3 ms a row and third of it.
_WHOLE_STEP, _WHOLE_ROW = 0.57, 0.0039
_REFERENCE = {(3, NEAR_FAST): 1.71, (3, NEAR): 1.66, (3, FAR): 1.23, (12, NEAR_FAST): 1.24, (12, FAR): 0.57}
"""Petals' steps a second at position 128 in its authors' table."""


def paced(donors: int) -> Pace:
    """Each donor's share of the reference's computing."""
    return Pace(_WHOLE_STEP / donors, _WHOLE_ROW / donors, _WHOLE_STEP / donors / 100)


def at_once(donors: int, link: Net) -> Measure:
    """One reader alone, and eight at once."""

    async def measure(bench: Bench, name: str) -> list[Row]:
        pace, layers = paced(donors), await layers_of(bench, "long")
        places = places_for(split(layers, donors), pace)
        async with stand(bench, link, "long", "float32", places) as here:
            await here.swarm.answer(bench.prompts(1, 128, here.vocab)[0], 4)
            busy, started = here.swarm.cpu_seconds(), time.monotonic()
            prompts = [bench.prompts(READERS, 128, here.vocab) for _ in range(bench.scale.pairs)]
            both = await bench.each(partial(_alone_and_many, here.swarm, eight) for eight in prompts)
            used = (here.swarm.cpu_seconds() - busy) / (time.monotonic() - started)
        if not both:
            return []
        alone, many = [one for one, _ in both], [eight for _, eight in both]
        token = median(timing.step for timing in alone)
        bound = donors * (pace.step + link.delay_ms / 1e3)
        # While all decode: from the last one's first token to the first one's last.
        slow = [max(step_together(timings, timing) for timing in timings) for timings in many]
        theirs = _REFERENCE.get((donors, link))
        what = f"{called('long', pace)}, {donors} donors, {link}"
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
                {
                    "declared for a batch of 8": 1 + 7 * pace.session / pace.step,
                    "routes changed": float(here.swarm.moves),
                },
            ),
        ]

    return measure


async def _alone_and_many(swarm: Contender, prompts: Sequence[Sequence[int]]) -> tuple[Timing, list[Timing]]:
    one = await swarm.answer(prompts[0], AHEAD // 2)
    return one, await readers(swarm, prompts, TOGETHER)


def positions(donors: int, link: Net) -> Measure:
    """One reader at several positions, and prompts all at once."""

    async def measure(bench: Bench, name: str) -> list[Row]:
        pace, layers = paced(donors), await layers_of(bench, "long")
        rows = []
        bound = donors * (pace.step + link.delay_ms / 1e3)
        what = f"{called('long', pace)}, {donors} donors, {link}"
        places = places_for(split(layers, donors), pace)
        async with stand(bench, link, "long", "float32", places) as here:
            for position in bench.scale.positions:
                count = min(bench.scale.few, 2)
                prompts = bench.prompts(count, position, here.vocab)
                timings = await bench.each(partial(here.swarm.answer, ids, AHEAD + 1) for ids in prompts)
                if not timings:
                    return rows
                token = median(t.step for t in timings)
                row = Row(
                    name,
                    f"{what}: 1 reader at {position:,}",
                    "steps/s",
                    Interval.of(t.rate for t in timings),
                    1,
                    "float32",
                    None,
                    {
                        "a token, ms": token * 1e3,
                        "of it declared computing": donors * pace.step * 1e3,
                        "delays": donors * link.delay_ms,
                        "the rest": (token - bound) * 1e3,
                        "token / bound": token / bound,
                        "first token, s": median(t.first for t in timings),
                    },
                )
                rows.append(row)
            for count in SEQUENCES:
                base = Row(name, what, "", Interval.of([0.0]), 1, "float32")
                rows += await prompts_at_once(bench, here, base, count)
        return rows

    return measure


# As in the reference: 2 RTX 3060, 4 2080 Ti, 2 3090, 2 A4000, 4 A5000, here with made-up links. A donor's
# rate in Mbit/s, delay to the middle in ms, part of packets that are lost, and time against the mean.
_UNEQUAL = (
    (100, 8, 0.002, 1.5), (200, 45, 0.005, 1.5), (100, 12, 0.001, 1.2), (500, 40, 0.001, 1.2),
    (1000, 9, 0.001, 1.2), (100, 50, 0.010, 1.2), (300, 15, 0.002, 0.8), (1000, 42, 0.001, 0.8),
    (100, 10, 0.003, 1.1), (500, 48, 0.002, 1.1), (1000, 7, 0.001, 0.7), (100, 44, 0.005, 0.7),
    (200, 14, 0.002, 0.7), (1000, 46, 0.001, 0.7),
)  # fmt: skip
_BEHIND_NAT = frozenset({2, 6, 10, 13})
"""Of the fourteen, counted from 1: they are reached only by whom they have spoken to."""


def fourteen(*, nat: bool) -> Measure:
    """Donors of unequal speed on unequal links that lose packets, four of them behind NAT or none."""

    async def measure(bench: Bench, name: str) -> list[Row]:
        base = paced(len(_UNEQUAL))
        spans = split(await layers_of(bench, "long"), len(_UNEQUAL))
        places, hosts, behind_nat = [], [], []
        for number, (span, (mbit, delay, loss, share)) in enumerate(zip(spans, _UNEQUAL, strict=True), 1):
            pace = Pace(base.step * share, base.row * share, base.session * share)
            behind = nat and number in _BEHIND_NAT
            behind_nat += [f"s{number}"] * behind
            places.append(Place(f"s{number}", span, pace=pace))
            hosts.append(Host(f"s{number}", mbit, mbit, delay, jitter_ms=2, loss=loss, nat=behind))
        async with stand(bench, FAR, "long", "float32", places, hosts=hosts) as here:
            await here.swarm.until_reached(behind_nat)
            prompts = bench.prompts(bench.scale.few, 128, here.vocab)
            timings = await bench.each(partial(here.swarm.answer, ids, AHEAD) for ids in prompts)
        if not timings:
            return []
        token = median(timing.step for timing in timings)
        compute = base.step * sum(share for *_, share in _UNEQUAL)
        ways = 2 * sum(d for _, d, *_ in _UNEQUAL) / 1e3
        behind_ = f"{len(_BEHIND_NAT)} behind NAT that only dials out" if nat else "all reachable"
        return [
            Row(
                name,
                "*emulated*, 14 unequal donors, 100 to 1,000 Mbit/s, 7 to 50 ms to the middle, 0.1 to 1 % "
                f"loss, {behind_}: 1 reader at 128",
                "steps/s",
                Interval.of(timing.rate for timing in timings),
                1,
                "float32",
                None,
                {"a token, ms": token * 1e3, "Petals, its own 14 donors, steps/s": 0.83},
                f"of a token's {token * 1e3:.0f} ms, {compute * 1e3:.0f} are declared computing, "
                f"{ways * 1e3:.0f} delays, "
                f"{(token - compute - ways) * 1e3:.0f} the rest: jitter, losses, hops",
            )
        ]

    return measure


TOGETHER = 12
"""Tokens of each of several readers."""
IDLE_STEP = 0.35
"""Three donors that compute so long leave each link idle for more than a second between two tokens."""


async def idle_links(bench: Bench, name: str) -> list[Row]:
    """Activations of BLOOM-176B's size on links whose windows have shrunk."""
    shape = "wide" if bench.scale.few > 1 else "thin"
    pace = Pace(IDLE_STEP, 0.0001, 0.0)
    places = places_for(split(await layers_of(bench, shape), DONORS), pace)
    async with stand(bench, FAR, shape, "float32", places) as here:
        prompts = bench.prompts(bench.scale.few + 1, 16, here.vocab)
        timings = (await bench.each(partial(here.swarm.answer, ids, AHEAD // 2) for ids in prompts))[1:]
        frame = here.swarm.config.hidden * 4
    if not timings:
        return []
    token = median(timing.step for timing in timings)
    sending = 2 * DONORS * frame * 8 / FAR.mbit / 1e6
    bound = DONORS * (pace.step + FAR.delay_ms / 1e3)
    return [
        Row(
            name,
            f"{called(shape, pace)}, {DONORS} donors, {FAR}, frames of {frame / 1e3:.1f} KB, links idle for "
            "a second between tokens: a token against (declared computing + 3 delays)",
            "×",
            Interval.of(timing.step / bound for timing in timings),
            1,
            "float32",
            None,
            {"a token, ms": token * 1e3, "bound, ms": bound * 1e3},
            f"of a token's {token * 1e3:.0f} ms, {DONORS * pace.step * 1e3:.0f} are declared computing, "
            f"{DONORS * FAR.delay_ms:.0f} delays, {sending * 1e3:.0f} sending a frame up and down a hop, "
            f"{(token - bound - sending) * 1e3:.0f} the rest; TCP's first window holds 14 KB, so a frame on "
            "an idle link may take another round trip",
        )
    ]
