"""A PC that gives tries the swarm itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import pytest

from core.errors import SwarmError
from core.node import trial as module
from core.node.trial import EAGER_SECONDS, EVERY_SECONDS, Trial, every
from core.routing.seen import Experience
from core.serving.levels import CROWD
from core.terms import DonorState, ModelRef, PeerId, Record, Span

ME = PeerId("me")


def record(name: str) -> Record:
    return Record(PeerId(name), ModelRef("m", "1", 8), Span(0, 8), DonorState.ONLINE, 1.0, 90.0)


class Reader:
    """Whom it reads over serves, and is known by that; once the directory does not answer."""

    def __init__(self, *donors: str) -> None:
        self.experience = Experience(time.monotonic)
        self.asked: list[Collection[Record]] = []
        self._records, self._lost = tuple(map(record, donors)), True

    async def records(self) -> tuple[Record, ...]:
        if self._lost:
            self._lost = False
            raise SwarmError("nobody answers", "Wait.")
        return self._records

    async def read_over(self, records: Collection[Record]) -> Collection[PeerId]:
        self.asked.append(records)
        met = [one.peer_id for one in records if len(one.span) == 8]
        self.experience.seen.served(met)
        return met


async def run(reader: Reader, times: int) -> int:
    """How often it reads in a moment, at most so often."""
    running = asyncio.create_task(Trial(reader, {ME}).run())
    for _ in range(40):
        await asyncio.sleep(0.005)
        if len(reader.asked) >= times:
            break
    assert not running.done()
    running.cancel()
    return len(reader.asked)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(module, "EAGER_SECONDS", 0.01)


async def test_it_reads_over_one_after_the_other() -> None:
    """Each is the only one that holds all layers, in its turn."""
    reader = Reader("one", "two", "three", ME)
    assert await run(reader, 3) >= 3
    over = [[one.peer_id for one in records if len(one.span) == 8] for records in reader.asked[:3]]
    assert sorted(over) == [["one"], ["three"], ["two"]]


async def test_there_is_nothing_to_try_where_nobody_else_serves() -> None:
    """Alone it would only warm its own card."""
    assert await run(Reader(ME), 1) == 0


def test_it_reads_more_often_while_there_are_donors_to_get_to_know() -> None:
    """But not in a crowd, which nobody gets to know."""
    seen = Experience(time.monotonic).seen
    few = [record(f"d{n}") for n in range(3)]
    assert every(few, seen, {ME}) == module.EAGER_SECONDS
    seen.served([one.peer_id for one in few])
    assert every(few, seen, {ME}) == module.EVERY_SECONDS
    assert every([record(f"d{n}") for n in range(CROWD + 1)], seen, {ME}) == module.EVERY_SECONDS
    assert EAGER_SECONDS < EVERY_SECONDS
