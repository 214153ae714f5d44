from __future__ import annotations

import asyncio
import logging
import time

import pytest

from core.errors import SwarmError
from core.swarm import watch
from core.swarm.fake import FakeDirectory, FakePeer, FakeSwarm
from core.swarm.identity import Identity
from core.swarm.watch import Announcer, Watcher
from core.terms import DonorState, ModelRef, Record, Span

MODEL = ModelRef("bloom", "main", 26)
SPAN = Span(0, 8)


class Clock:
    now = time.time()

    def __call__(self) -> float:
        return self.now


def record(peer: FakePeer, span: Span = SPAN) -> Record:
    return Record(peer.peer_id, MODEL, span, DonorState.ONLINE, 1.0, 0.0)


async def settle() -> None:
    await asyncio.sleep(0.03)


async def test_a_record_is_announced_at_once_and_again() -> None:
    """The record is there after update, is renewed before it runs out, and follows changes."""
    clock = Clock()
    swarm = FakeSwarm(clock)
    donor, reader = swarm.peer(), swarm.peer()
    announcer = Announcer(donor.directory, every=0.02)
    announcer.update(record(donor))
    await settle()
    (first,) = await reader.directory.read(MODEL)
    clock.now += 60
    await settle()
    (again,) = await reader.directory.read(MODEL)
    assert again.expires_at >= first.expires_at + 59
    announcer.update(record(donor, Span(8, 16)))
    await settle()
    assert announcer.stored is not None
    assert announcer.stored.span == Span(8, 16)
    await announcer.withdraw()
    (left,) = await reader.directory.read(MODEL)
    assert left.state == DonorState.LEAVING
    await announcer.withdraw()


async def test_a_failed_announcement_is_said_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While nobody takes the record one warning is logged; afterwards it is there."""
    swarm = FakeSwarm()
    donor = swarm.peer()
    real, broken = FakeDirectory.announce, [True]

    async def announce(self: FakeDirectory, one: Record, signer: Identity | None = None) -> Record:
        if broken[0]:
            raise SwarmError("nobody took it")
        return await real(self, one, signer)

    monkeypatch.setattr(FakeDirectory, "announce", announce)
    announcer = Announcer(donor.directory, every=0.005)
    with caplog.at_level(logging.WARNING):
        announcer.update(record(donor))
        await settle()
    assert caplog.text.count("nobody took it") == 1
    broken[0] = False
    await settle()
    assert await donor.directory.read(MODEL)
    await announcer.withdraw()


async def test_a_watcher_knows_without_waiting() -> None:
    """Records come, change and run out by themselves in what the watcher holds."""
    clock = Clock()
    swarm = FakeSwarm(clock)
    donor, reader = swarm.peer(), swarm.peer()
    watcher = Watcher(reader.directory, MODEL, every=0.01, clock=clock)
    await donor.directory.announce(record(donor))
    await settle()
    assert [one.peer_id for one in watcher.records] == [donor.peer_id]
    clock.now += 91
    assert watcher.records == ()
    await watcher.close()


async def test_an_immediate_read_is_shared_and_knows_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many who ask at once cause one read; who asks right after it hears what has come since."""
    swarm = FakeSwarm()
    donor, reader = swarm.peer(), swarm.peer()
    reads = []
    real = FakeDirectory.read

    async def read(self: FakeDirectory, model: ModelRef, layers: Span | None = None) -> tuple[Record, ...]:
        reads.append(layers)
        await asyncio.sleep(0.01)
        return await real(self, model, layers)

    monkeypatch.setattr(FakeDirectory, "read", read)
    await donor.directory.announce(record(donor))
    watcher = Watcher(reader.directory, MODEL)
    answers = await asyncio.gather(*(watcher.refresh() for _ in range(10)))
    assert all(len(answer) == 1 for answer in answers)
    assert len(reads) <= 2
    late = swarm.peer()
    await late.directory.announce(record(late))
    assert {one.peer_id for one in await watcher.refresh()} == {donor.peer_id, late.peer_id}
    assert len(reads) <= 3
    await watcher.close()


async def test_layers_that_matter_are_read_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first whole read, only the bands in use are read until the rest is due."""
    swarm = FakeSwarm()
    reader = swarm.peer()
    reads: list[Span | None] = []
    real = FakeDirectory.read

    async def read(self: FakeDirectory, model: ModelRef, layers: Span | None = None) -> tuple[Record, ...]:
        reads.append(layers)
        return await real(self, model, layers)

    monkeypatch.setattr(FakeDirectory, "read", read)
    watcher = Watcher(reader.directory, MODEL, Span(0, 8), every=0.005)
    await asyncio.sleep(0.05)
    await watcher.close()
    assert reads[0] is None
    assert set(reads[1:]) == {Span(0, 8)}


async def test_a_large_swarm_is_looked_at_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only looks gets what was read last until that has been paid for, even what has run out since; who
    needs news gets it."""
    clock = Clock()
    swarm = FakeSwarm(clock)
    reader = swarm.peer()
    watcher = Watcher(reader.directory, MODEL, clock=clock)
    donors = [swarm.peer() for _ in range(4)]
    for donor in donors[:2]:
        await donor.directory.announce(record(donor))
    assert len(await watcher.refresh()) == 2
    for donor in donors[2:]:
        await donor.directory.announce(record(donor))
    monkeypatch.setattr(watch, "RECORD_SECONDS", 1000.0)
    clock.now += 80
    assert {one.peer_id for one in await watcher.glance(0.0)} == {one.peer_id for one in donors[:2]}
    monkeypatch.setattr(watch, "RECORD_SECONDS", 0.0)
    assert len(await watcher.glance(1000.0)) == 2
    assert len(await watcher.glance(0.0)) == 4
    await watcher.close()
