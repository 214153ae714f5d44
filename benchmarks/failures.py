"""What a lost donor costs a reader.

    python -m benchmarks.failures [--kills N] [--tokens 128,1024] [--only kill,rates] [--out FOLDER]

*Kill*: one of three donors, a real worker process on loopback, gets SIGKILL amid an answer: its stall is
the time from the kill to the first token over the new route, less a usual step. With a warm standby, and
without one. *Rates*: a ring of four stages in this process over a swarm in memory (emulated: real
processes would take hours), where each step a donor dies with the chance p, beside what two others would
take with the same steps: starting the answer again from its prompt, and keeping no cache at all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks.emulated import EmulatedRing, emulated_ring
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
KILL_AT, TOKENS = 40, 60
ENOUGH = 20
"""Fewer kills a role are not judged by."""
REST = 0.004
"""Donors sleep so long after a step, so that a standby is warm by the time of the kill."""
RATES = (0.0, 1e-4, 1e-3, 1e-2)
GREEDY = Sampling()
NOTES = (
    "A stall is the time from SIGKILL to the first token over the new route, less a usual step: detection, "
    "opening, replay. The bundled model in float32; a prompt of 100 tokens, killed at the 40th of the "
    "answer. *Rates* are tokens a second where "
    "each step one donor of four stages dies with the chance p; emulated in one process over a swarm in "
    "memory, the first token's time included. *From the prompt* and *no cache* are computed from the same "
    "run's step and prefill times."
)


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


async def kill_once(swarm: Replicas, role: str, *, warm: bool) -> Stall:
    """One answer in which the donor of this role dies."""
    connections = Connections(swarm.peer)
    planner = Planner(swarm.peer, ref(swarm.config), swarm.config.hidden, connections)

    async def way(avoid: frozenset[PeerId], before: Route | None) -> Way:
        found = await planner.way(0, avoid, before)
        return found if warm else replace(found, standbys={})

    session = TimedSession(connections, way, swarm.config.max_length, report=planner.trouble)
    try:
        return await _timed(swarm, session, ROLES.index(role))
    finally:
        session.close()
        await asyncio.sleep(0.05)
        connections.close()
        await planner.close()


async def _timed(swarm: Replicas, session: TimedSession, stage: int) -> Stall:
    clock = asyncio.get_running_loop().time
    ids = [5 + (7 * number) % 900 for number in range(PROMPT)]
    times: list[float] = []
    killed_at, back_at, place = 0.0, 0.0, None
    async for event in session.answer(ids, GREEDY, TOKENS, frozenset()):
        if not isinstance(event, Token):
            continue
        times.append(clock())
        if len(times) == KILL_AT:
            place, killed_at = _kill(swarm, session, stage), clock()
        elif killed_at and session.moves and not back_at:
            back_at = times[-1]
    if place is None or not back_at:
        raise RuntimeError("the answer ended before its donor was missed")
    assert place.worker is not None
    await place.worker.ended()
    await place.start()
    step = statistics.median(b - a for a, b in pairwise(times[10:KILL_AT]))
    return Stall(back_at - killed_at - step, max(back_at - session.opened_at - step, 0.0), step)


def _kill(swarm: Replicas, session: Session, stage: int) -> Place:
    assert session.route is not None
    victim = session.route.stages[stage].peer_id
    place = next(place for place in swarm.places if place.peer_id == victim)
    assert place.worker is not None
    os.kill(place.worker.process.pid, signal.SIGKILL)
    return place


async def kills(count: int, results: Results, run: Run) -> None:
    async with replicas(bundled_model(), split(LAYERS, len(ROLES)), rest=REST, speculate=False) as swarm:
        found: dict[tuple[str, bool], list[Stall]] = {}
        for _ in range(count):
            for role in ROLES:
                for warm in (True, False):
                    stall = await kill_once(swarm, role, warm=warm)
                    found.setdefault((role, warm), []).append(stall)
            rows = [_stall_row(role, warm, stalls) for (role, warm), stalls in found.items()]
            results.put(rows, run)  # after each round: what a killed run has measured stays


def _stall_row(role: str, warm: bool, stalls: Sequence[Stall]) -> Row:
    how = "with a warm standby" if warm else "without a standby"
    replay = statistics.median(stall.replay for stall in stalls)
    return Row(
        name=f"kill-{role}-{'warm' if warm else 'cold'}",
        what=f"stall when the {role} is killed, {how}",
        unit="s",
        value=Interval.of(stall.seconds - stall.replay for stall in stalls) if warm else _whole(stalls),
        threads=1,
        dtype="float32",
        bar=Bar(1.0, at_least=False) if warm and len(stalls) >= ENOUGH else None,
        beside={
            "whole stall": statistics.median(stall.seconds for stall in stalls),
            "replay": replay,
            "usual step": statistics.median(stall.step for stall in stalls),
        },
        bound="the replay is left out of the value, as the bar says" if warm else "",
    )


def _whole(stalls: Sequence[Stall]) -> Interval:
    return Interval.of(stall.seconds for stall in stalls)


# Failure rates


async def rates(lengths: Sequence[int], repeats: int, results: Results, run: Run) -> None:
    async with emulated_ring(bundled_model(), split(LAYERS, 4)) as ring:
        step, row = await _costs(ring)
        for tokens in lengths:
            for p in RATES:
                chance = random.Random(tokens + int(1e5 * p))
                once = partial(_rate, ring, tokens, p, chance)
                speeds = [await once() for _ in range(repeats)]
                results.put([_rate_row(tokens, p, speeds, step, row)], run)


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


def _rate_row(tokens: int, p: float, speeds: Sequence[float], step: float, row: float) -> Row:
    return Row(
        name=f"rate-{tokens}-{p:g}",
        what=f"{tokens} tokens, p = {p:g} a step (emulated)",
        unit="tokens/s",
        value=Interval.of(speeds),
        threads=1,
        dtype="float32",
        beside={
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
    parser.add_argument("--only", default="kill,rates", help="kill, rates or both")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    results = Results("What a lost donor costs a reader", NOTES, chosen.out, "failures")
    run = Run.here(quick=chosen.kills < 20)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if "rates" in chosen.only:
            lengths = [int(length) for length in chosen.tokens.split(",")]
            runner.run(rates(lengths, chosen.repeats, results, run))
        if "kill" in chosen.only:
            runner.run(kills(chosen.kills, results, run))
    print(results.markdown())


if __name__ == "__main__":
    main()
