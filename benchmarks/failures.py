"""What a lost donor costs a reader.

    python -m benchmarks.failures [--kills N] [--minutes M] [--tokens 128,1024] [--only kill,far,leave,rates]

*Kill*: one of three donors, a real worker process on loopback, gets SIGKILL amid an answer: its stall is
the time from the kill to the first token over the new route, less a usual step. With a warm standby, and
without one. Then one leaves as planned. *Far*: the same, 100 ms round trip apart; needs root. *Leave*: of
both the leavings alone. *Rates*: a ring of four stages in this process over a swarm in memory (emulated: real
processes would take hours), where each step a donor dies with the chance p, beside what two others would take
with the same steps: starting the answer again from its prompt, and keeping no cache at all.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from benchmarks.emulated import EmulatedRing, emulated_ring
from benchmarks.internet.network import Host
from benchmarks.measure import Bar, Interval, Results, Row, Run
from benchmarks.replicas import Place, Replicas, replicas
from benchmarks.swarm_of_workers import split
from core.model.config import ref
from core.paths import bundled_model
from core.routing.connections import Connections
from core.routing.opening import Way
from core.routing.planner import Planner
from core.routing.session import Session
from core.swarm.loop import new_event_loop
from core.terms import PeerId, Route, Sampling, Token

ROLES = ("entry", "middle", "tail")
LAYERS = 10
PROMPT = 100


@dataclass(frozen=True)
class Length:
    """Of an answer, and at which of its tokens it is disturbed; one whose donor leaves as planned is longer,
    since that serves on while the replacement is filled."""

    disturbed: int
    tokens: int
    leaving: int


NEAR, FAR = Length(40, 60, 200), Length(20, 28, 60)
DRAIN_SECONDS = 20.0
AFTERWARDS = 5
"""Tokens after a change of route that may still come later for it."""
ROUND_TRIPS = 8
"""What a stall may take longer without a standby."""
ENOUGH = 15
"""Fewer kills a role are too few to judge by."""
REST = 0.004
"""Donors sleep so long after a step, so that a standby is warm by the time of the kill."""
RATES = (0.0, 1e-4, 1e-3, 1e-2)
GREEDY = Sampling()
NOTES = """\
A stall is the time from SIGKILL to the first token over the new route, less a usual step: detection, opening,
replay; the replay is left out of the value, as the bar says. A pause is the longest time between two tokens
from the word to leave to five tokens after the change of route, less a usual step, in usual steps (until late
on 2026-11-27: to the end of the answer). The bundled model in float32; a prompt of 100
tokens, disturbed amid the answer. Without a standby the client keeps no streams to who would replace a stage;
donors may still have some to each other from earlier answers. *Rates* are tokens a second where each step one
donor of four stages dies with the chance p; emulated in one process over a swarm in memory, the first token's
time included. *From the prompt* and *no cache* are computed from the same run's step and prefill times."""


class TimedSession(Session):
    """Notes when its last route was open."""

    opened_at = 0.0

    async def _open_way(self, way: Way) -> None:
        await super()._open_way(way)
        self.opened_at = asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Stall:
    """Seconds without a token beyond a usual step: the whole, and what of it came after the new route was
    open."""

    seconds: float
    replay: float
    step: float


async def kill_once(swarm: Replicas, role: str, length: Length, *, warm: bool) -> Stall:
    """One answer in which the donor of this role dies."""
    connections = Connections(swarm.peer)
    planner = Planner(swarm.peer, ref(swarm.config), swarm.config.hidden, connections)

    async def way(avoid: frozenset[PeerId], before: Route | None) -> Way:
        found = await planner.way(0, avoid, before)
        return found if warm else replace(found, standbys={})

    session = TimedSession(connections, way, swarm.config.max_length, report=planner.trouble)
    try:
        return await _timed(swarm, session, ROLES.index(role), length)
    finally:
        session.close()
        await asyncio.sleep(0.05)
        connections.close()
        await planner.close()


async def _timed(swarm: Replicas, session: TimedSession, stage: int, length: Length) -> Stall:
    clock = asyncio.get_running_loop().time
    ids = [5 + (7 * number) % 900 for number in range(PROMPT)]
    times: list[float] = []
    killed_at, back_at, place = 0.0, 0.0, None
    async for event in session.answer(ids, GREEDY, length.tokens, frozenset()):
        if not isinstance(event, Token):
            continue
        times.append(clock())
        if len(times) == length.disturbed:
            place, killed_at = _kill(swarm, session, stage), clock()
        elif killed_at and session.moves and not back_at:
            back_at = times[-1]
    if place is None or not back_at:
        raise RuntimeError("the answer ended before its donor was missed")
    assert place.worker is not None
    await place.worker.ended()
    await place.start()
    step = statistics.median(b - a for a, b in pairwise(times[10 : length.disturbed]))
    return Stall(back_at - killed_at - step, max(back_at - session.opened_at - step, 0.0), step)


def _serving(swarm: Replicas, session: Session, stage: int) -> Place:
    assert session.route is not None
    serving = session.route.stages[stage].peer_id
    return next(place for place in swarm.places if place.peer_id == serving)


def _kill(swarm: Replicas, session: Session, stage: int) -> Place:
    place = _serving(swarm, session, stage)
    assert place.worker is not None
    os.kill(place.worker.process.pid, signal.SIGKILL)
    return place


async def leave_once(swarm: Replicas, role: str, length: Length) -> float:
    """One answer in which the donor of this role leaves as planned: the pause, in usual steps. It is
    looked for from the word to leave to some tokens after the change of route, no longer."""
    connections = Connections(swarm.peer)
    planner = Planner(swarm.peer, ref(swarm.config), swarm.config.hidden, connections)

    async def way(avoid: frozenset[PeerId], before: Route | None) -> Way:
        return await planner.way(0, avoid, before)

    session = Session(connections, way, swarm.config.max_length)
    clock, times, leaving, moved_at = asyncio.get_running_loop().time, list[float](), None, 0
    ids = [5 + (7 * number) % 900 for number in range(PROMPT)]
    try:
        async for event in session.answer(ids, GREEDY, length.leaving, frozenset()):
            if not isinstance(event, Token):
                continue
            times.append(clock())
            if session.moves and not moved_at:
                moved_at = len(times)
            if len(times) == length.disturbed:
                place = _serving(swarm, session, ROLES.index(role))
                assert place.worker is not None
                leaving = asyncio.create_task(place.worker.drain(DRAIN_SECONDS))
        if leaving is None or not session.moves:
            raise RuntimeError("the answer ended before its donor had left: ask for more tokens")
    finally:
        session.close()
        if leaving is not None:
            await leaving
            await place.start()
        await asyncio.sleep(0.05)
        connections.close()
        await planner.close()
    step = statistics.median(b - a for a, b in pairwise(times[10 : length.disturbed]))
    leaves = times[length.disturbed - 1 : moved_at + AFTERWARDS]
    return max(b - a for a, b in pairwise(leaves)) / step - 1


def host(name: str) -> Host:
    """As far from another as the bar's."""
    return Host(name, 100, 100, 25)


async def kills(
    count: int, minutes: float, results: Results, run: Run, *, far: bool = False, killing: bool = True
) -> None:
    """Rounds of a kill of each role with a standby, one without, and a planned leaving, or that alone."""
    length = FAR if far else NEAR
    spans, until = split(LAYERS, len(ROLES)), time.monotonic() + 60 * minutes
    how = {"hosts": host, "rest": 0.0} if far else {"rest": REST}
    async with replicas(bundled_model(), spans, speculate=False, **how) as swarm:  # type: ignore[arg-type]
        found: dict[tuple[str, bool], list[Stall]] = {}
        pauses: dict[str, list[float]] = {}
        for number in range(count):
            if number and time.monotonic() > until:
                break
            for role in ROLES:
                for warm in (True, False) if killing else ():
                    stall = await kill_once(swarm, role, length, warm=warm)
                    found.setdefault((role, warm), []).append(stall)
                pauses.setdefault(role, []).append(await leave_once(swarm, role, length))
            rows = [_stall_row(role, stalls, warm=warm, far=far) for (role, warm), stalls in found.items()]
            rows += [_pause_row(role, taken, far=far) for role, taken in pauses.items()]
            results.put(rows, run)  # after each round: what a killed run has measured stays


AWAY = ", 100 ms round trip"


def _stall_row(role: str, stalls: Sequence[Stall], *, warm: bool, far: bool) -> Row:
    how = "with a warm standby" if warm else "without a standby"
    limit = 1.0 + (0.0 if warm or not far else ROUND_TRIPS * 0.1)
    return Row(
        name=f"{'far' if far else 'kill'}-{role}-{'warm' if warm else 'cold'}",
        what=f"stall when the {role} is killed, {how}{AWAY if far else ''}",
        unit="s",
        value=Interval.of(stall.seconds - stall.replay for stall in stalls),
        threads=1,
        dtype="float32",
        bar=Bar(limit, at_least=False),
        beside={
            "whole stall": statistics.median(stall.seconds for stall in stalls),
            "longest": max(stall.seconds for stall in stalls),
            "replay": statistics.median(stall.replay for stall in stalls),
            "usual step": statistics.median(stall.step for stall in stalls),
        },
    )


def _pause_row(role: str, pauses: Sequence[float], *, far: bool) -> Row:
    return Row(
        name=f"{'far' if far else 'kill'}-{role}-leaves",
        what=f"pause when the {role} leaves as planned{AWAY if far else ''}",
        unit="steps",
        value=Interval.of(pauses),
        threads=1,
        dtype="float32",
        bar=Bar(1.0, at_least=False),
        beside={"longest": max(pauses)},
    )


# Failure rates


async def rates(lengths: Sequence[int], repeats: int, results: Results, run: Run) -> None:
    async with emulated_ring(bundled_model(), split(LAYERS, 4)) as ring:
        costs = await _costs(ring)
        for tokens in lengths:
            chances = {p: random.Random(tokens + int(1e5 * p)) for p in RATES}
            speeds: dict[float, list[float]] = {p: [] for p in RATES}
            await _rate(ring, tokens, 0.0, random.Random(0))  # what happens once is in no row
            for _ in range(repeats):
                for p, chance in chances.items():
                    speeds[p].append(await _rate(ring, tokens, p, chance))
            results.put([_rate_row(tokens, p, speeds[p], speeds[0.0], costs) for p in RATES], run)


async def _rate(ring: EmulatedRing, tokens: int, p: float, chance: random.Random) -> float:
    """Tokens a second of one answer."""
    session, clock = ring.session(), asyncio.get_running_loop().time
    started = clock()
    try:
        async for event in session.answer([7] * 8, GREEDY, tokens, frozenset()):
            if isinstance(event, Token) and chance.random() < p and session.route is not None:
                ring.kill(chance.choice(session.route.stages).peer_id)
        return tokens / (clock() - started)
    finally:
        session.close()
        await ring.mended()


async def _costs(ring: EmulatedRing) -> tuple[float, float]:
    """Seconds of a step, and of a row of a prompt."""
    clock = asyncio.get_running_loop().time
    firsts, steps = [], []
    for _ in range(5):
        session = ring.session()
        await session.open()
        times = [clock()]
        times += [clock() async for _ in session.answer([7] * 512, GREEDY, 64, frozenset())]
        firsts.append((times[1] - times[0]) / 512)
        steps += [b - a for a, b in pairwise(times[1:])]
        session.close()
    return statistics.median(steps), statistics.median(firsts)


def from_prompt(tokens: int, p: float, step: float) -> float:
    """Tokens a second where any loss begins the answer again: until ``tokens`` steps in a row go well,
    ((1 - p)^-tokens - 1) / p steps are expected."""
    expected = tokens if not p else ((1 - p) ** -tokens - 1) / p
    return tokens / (expected * step)


def no_cache(tokens: int, p: float, step: float, row: float) -> float:
    """Tokens a second where each token runs all before it; a loss costs one such step again."""
    seconds = sum(max(step, row * number) for number in range(1, tokens + 1))
    return tokens * (1 - p) / seconds


def _rate_row(
    tokens: int, p: float, speeds: Sequence[float], unharmed: Sequence[float], costs: tuple[float, float]
) -> Row:
    """``costs``: seconds of a step, and of a row of a prompt."""
    step, row = costs
    return Row(
        name=f"rate-{tokens}-{p:g}",
        what=f"{tokens} tokens, p = {p:g} a step (emulated)",
        unit="tokens/s",
        value=Interval.of(speeds),
        threads=1,
        dtype="float32",
        beside={
            "against p = 0": statistics.median(a / b for a, b in zip(speeds, unharmed, strict=True)),
            "from the prompt": from_prompt(tokens, p, step),
            "no cache": no_cache(tokens, p, step, row),
            "usual step (ms)": 1000 * step,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failures")
    parser.add_argument("--kills", type=int, default=20, help="kills a role, with and without a standby (20)")
    parser.add_argument("--repeats", type=int, default=3, help="answers a failure rate (3)")
    parser.add_argument("--tokens", default="128,1024", help="lengths of answers (128,1024)")
    parser.add_argument("--only", default="kill,far,rates", help="kill, far, leave, rates or several")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no round is begun after so long")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    results = Results("What a lost donor costs a reader", NOTES, chosen.out, "failures")
    run = Run.here(quick=chosen.kills < ENOUGH)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if "rates" in chosen.only:
            lengths = [int(length) for length in chosen.tokens.split(",")]
            runner.run(rates(lengths, chosen.repeats, results, run))
        wanted = {name: name in chosen.only for name in ("kill", "far", "leave")}
        for far in (False, True):
            killing = wanted["far" if far else "kill"]
            if killing or (wanted["leave"] and (not far or not os.geteuid())):
                runner.run(kills(chosen.kills, chosen.minutes, results, run, far=far, killing=killing))
    print(results.markdown())


if __name__ == "__main__":
    main()
