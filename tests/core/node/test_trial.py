"""A PC that gives and does not read tries the swarm itself."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection

import pytest

from core.node import trial as module
from core.node.trial import Trial
from core.terms import DonorState, ModelRef, PeerId, Record, Span

ME = PeerId("me")


def record(name: str) -> Record:
    return Record(PeerId(name), ModelRef("m", "1", 8), Span(0, 8), DonorState.ONLINE, 1.0, 90.0)


class Reader:
    def __init__(self, *donors: str) -> None:
        self.answered_at = -math.inf
        self.asked: list[Collection[Record]] = []
        self._records = tuple(map(record, donors))

    async def records(self) -> tuple[Record, ...]:
        return self._records

    async def read_over(self, records: Collection[Record]) -> Collection[PeerId]:
        self.asked.append(records)
        return ()


async def run(reader: Reader) -> int:
    """How often it reads in a moment."""
    running = asyncio.create_task(Trial(reader, {ME}).run())
    for _ in range(40):
        await asyncio.sleep(0.005)
        if len(reader.asked) > 1:
            break
    assert not running.done()
    running.cancel()
    return len(reader.asked)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.01)


async def test_it_reads_again_and_again_over_whoever_is_there() -> None:
    """Also after it found nobody."""
    reader = Reader("other", ME)
    assert await run(reader) > 1
    assert all(len(records) == 2 for records in reader.asked)


async def test_there_is_nothing_to_try_where_nobody_else_serves() -> None:
    """Alone it would only warm its own card."""
    assert await run(Reader(ME)) == 0


async def test_what_the_owner_reads_is_trial_enough() -> None:
    """An answer a moment ago tells the same."""
    reader = Reader("other")
    reader.answered_at = time.monotonic() + 60
    assert await run(reader) == 0
