"""A donor that goes elsewhere while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from core.errors import DiskError
from core.node import mover as module
from core.node.delivery import Report
from core.node.mover import Mover
from core.serving import choose
from core.terms import Progress, Span

HERE, THERE, FAR = Span(0, 3), Span(3, 6), Span(6, 9)


class Swarm:
    """A donor and what it may choose among. ``log`` is what happened, in order."""

    def __init__(self) -> None:
        self.serving: Span | None = HERE
        self.whole = True
        self.wanted: Span | None = THERE
        """Where it should be."""
        self.needed = False
        """Somebody needs it where it is."""
        self.fetched = asyncio.Event()
        self.fails = self.alone = False
        self.log: list[str] = []

    async def __call__(self) -> Swarm:
        return self

    async def elsewhere(self, goal: Span, *, alone: bool) -> Span | None:
        self.alone = alone
        return None if goal == self.wanted else self.wanted

    async def may_leave(self, serving: Span, goal: Span, *, known: bool) -> bool:
        self.log.append("asks" if known else "asks too soon")
        return known and not self.needed

    async def fetch(self, span: Span, report: Report) -> None:
        report(Progress("fetching", 0, 1))
        try:
            await self.fetched.wait()
        except asyncio.CancelledError:
            self.log.append("stops fetching")
            raise
        if self.fails:
            raise DiskError("the disk is full", "Make room.")

    async def move(self, span: Span) -> None:
        self.log.append(f"moves {span}")
        self.serving = span

    def goes(self, span: Span | None) -> None:
        self.log.append(f"goes {span}")

    def report(self) -> Report:
        return lambda progress: self.log.append(progress.phase)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "HURRY_SECONDS", 0.01)
    monkeypatch.setattr(module, "KNOWN_SECONDS", 0.05)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come")


async def test_it_serves_on_while_it_fetches_and_goes_when_nobody_needs_it() -> None:
    """Others know from the beginning where it goes."""
    swarm = Swarm()
    swarm.needed = True
    running = asyncio.create_task(Mover(swarm, swarm).run())
    await until(lambda: "fetching" in swarm.log)
    assert swarm.log == ["goes 3:6", "fetching"] and swarm.serving == HERE
    swarm.fetched.set()
    await until(lambda: swarm.log.count("asks") > 2)
    assert swarm.serving == HERE
    swarm.needed = False
    await until(lambda: swarm.serving == THERE)
    assert swarm.log[-1] == "moves 3:6"
    running.cancel()


async def test_a_goal_that_is_wanted_no_more_is_given_up() -> None:
    """Its fetching ends, and others are told."""
    swarm = Swarm()
    running = asyncio.create_task(Mover(swarm, swarm).run())
    await until(lambda: "fetching" in swarm.log)
    swarm.wanted = HERE
    await until(lambda: "stops fetching" in swarm.log)
    assert swarm.log == ["goes 3:6", "fetching", "goes None", "stops fetching"]
    running.cancel()


async def test_it_waits_for_others_no_longer_than_is_useful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that stay without a donor are filled without counting on anybody to move."""
    monkeypatch.setattr(choose, "WAIT_SECONDS", 0.05)
    swarm = Swarm()
    swarm.whole, swarm.wanted = False, HERE
    running = asyncio.create_task(Mover(swarm, swarm).run())
    await until(lambda: swarm.alone)
    swarm.whole = True
    await until(lambda: not swarm.alone)
    running.cancel()


async def test_others_know_for_a_while_before_it_goes() -> None:
    """Though its layers are here at once: someone may have read the records before it said so."""
    swarm = Swarm()
    swarm.fetched.set()
    running = asyncio.create_task(Mover(swarm, swarm).run())
    await until(lambda: swarm.serving == THERE)
    asked = [line for line in swarm.log if line.startswith("asks")]
    assert asked[0] == "asks too soon" and asked[-1] == "asks"
    running.cancel()


@pytest.mark.parametrize("trouble", ["fails", "another worker"])
async def test_what_goes_wrong_leaves_it_where_it_is(trouble: str) -> None:
    """A full disk, or a worker that was ended meanwhile; it looks again later."""
    swarm = Swarm()
    running = asyncio.create_task(Mover(swarm, swarm).run())
    await until(lambda: "fetching" in swarm.log)
    if trouble == "fails":
        swarm.fails = True
        swarm.fetched.set()
        await until(lambda: swarm.log.count("goes None") == 1)
        swarm.fails = False
        await until(lambda: swarm.serving == THERE)
    else:
        swarm.serving = None
        await until(lambda: "stops fetching" in swarm.log)
        assert "goes None" not in swarm.log
    running.cancel()
