"""A donor measures the ways that matter to it, over a swarm in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from core.swarm import coordinates
from core.swarm.codec import CONTROL, pack, receive
from core.swarm.fake import FakePeer, FakeSwarm
from core.swarm.messages import Heard, Lease
from core.swarm.peer import Stream
from core.swarm.pinger import NEIGHBOURS, STRANGERS, Pinger, worth_measuring
from core.terms import NEAR_NAME, DonorState, ModelRef, PeerId, Record, Span

MODEL = ModelRef("bloom", "main", 12)
FAST = 0.02


def donor(name: str, start: int, end: int) -> Record:
    return Record(PeerId(name), MODEL, Span(start, end), DonorState.ONLINE, 0.0, 1e12)


@pytest.mark.parametrize(
    ("span", "first"),
    [(Span(4, 8), {"before", "after", "both"}), (Span(0, 4), {"mine", "after", "both"})],
)
def test_donors_of_neighbouring_layers_come_first(span: Span, first: set[str]) -> None:
    """Around the ring too: who holds the head comes before who holds the words."""
    records = [donor("before", 0, 4), donor("after", 8, 12), donor("both", 3, 12), donor("mine", 4, 8)]
    chosen = worth_measuring(records, span, 12, (), random.Random(1))
    assert {record.peer_id for record in chosen[:3]} == first


def test_few_are_measured_and_who_is_measured_stays() -> None:
    """However many there are."""
    records = [donor(f"n{n}", 4, 8) for n in range(50)] + [donor(f"s{n}", 0, 4) for n in range(50)]
    chosen = worth_measuring(records, Span(0, 4), 12, (), random.Random(1))
    assert len(chosen) == NEIGHBOURS + STRANGERS
    kept = [record.peer_id for record in chosen]
    again = worth_measuring(records, Span(0, 4), 12, kept, random.Random(2))
    assert {record.peer_id for record in again[:NEIGHBOURS]} == set(kept[:NEIGHBOURS])


async def answering(stream: Stream) -> None:
    while True:
        message = await receive(stream)
        assert isinstance(message, Lease)
        stream.write(pack(Heard(message.number)))


async def lying(stream: Stream) -> None:
    while True:
        await receive(stream)
        stream.write(pack(Heard(0)))


async def announce(peer: FakePeer, span: Span, pinger: Pinger | None = None) -> None:
    record = Record(peer.peer_id, MODEL, span, DonorState.ONLINE, 0.0, 0.0)
    if pinger is not None and pinger.knows:
        here = pinger.coordinate
        record = Record(
            peer.peer_id,
            MODEL,
            span,
            DonorState.ONLINE,
            0.0,
            0.0,
            coordinate=here.fields,
            coordinate_error=here.error,
        )
    await peer.directory.announce(record)


@asynccontextmanager
async def pinging(*pingers: Pinger) -> AsyncIterator[None]:
    for pinger in pingers:
        pinger.start()
    try:
        yield
    finally:
        for pinger in pingers:
            await pinger.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 nothing tells when
            await asyncio.sleep(0.01)


async def test_round_trips_to_neighbours_become_known() -> None:
    """And are told by the ends of their names."""
    swarm = FakeSwarm()
    me, other = swarm.peer(), swarm.peer()
    for link in swarm.wires(me.peer_id, other.peer_id):
        link.delay = 0.02
    await other.serve(CONTROL, answering)
    await announce(other, Span(4, 8))
    pinger = Pinger(me, MODEL, Span(0, 4), pace=FAST)
    assert (pinger.near, pinger.round_trip(other.peer_id)) == ((), None)
    async with pinging(pinger):
        await until(lambda: pinger.knows)
        measured = pinger.round_trip(other.peer_id)
        assert measured is not None and 0.04 <= measured < 1.0
        [(name, told)] = pinger.near
        assert name == other.peer_id[-NEAR_NAME:] and told >= 0.04
        assert pinger.coordinate != coordinates.Coordinate()
        await other.directory.withdraw(Record(other.peer_id, MODEL, Span(4, 8), DonorState.ONLINE, 0, 0))
        await until(lambda: not pinger.near)


async def test_who_does_not_answer_as_it_should_is_not_measured() -> None:
    """Neither a peer without the protocol, nor one that answers what was not asked."""
    swarm = FakeSwarm()
    me, silent, liar, honest = (swarm.peer() for _ in range(4))
    await liar.serve(CONTROL, lying)
    await honest.serve(CONTROL, answering)
    for peer in (silent, liar, honest):
        await announce(peer, Span(4, 8))
    pinger = Pinger(me, MODEL, Span(0, 4), pace=FAST)
    async with pinging(pinger):
        await until(lambda: pinger.knows)
        await asyncio.sleep(0.1)
        assert [name for name, _ in pinger.near] == [honest.peer_id[-NEAR_NAME:]]


async def test_coordinates_tell_the_ways_between_those_that_never_met() -> None:
    """Two of one town and two of another, 40 ms away: the towns are told apart."""
    swarm = FakeSwarm()
    peers = [swarm.peer() for _ in range(4)]
    spans = [Span(0, 6), Span(6, 12)] * 2
    for one in range(4):
        for other in range(4):
            if one // 2 != other // 2:
                swarm.link(peers[one].peer_id, peers[other].peer_id).delay = 0.02
    pingers = [Pinger(peer, MODEL, span, pace=FAST) for peer, span in zip(peers, spans, strict=True)]
    for peer, span in zip(peers, spans, strict=True):
        await peer.serve(CONTROL, answering)
        await announce(peer, span)

    def apart(one: int, other: int) -> float:
        return coordinates.round_trip(pingers[one].coordinate, pingers[other].coordinate)

    async with pinging(*pingers):
        async with asyncio.timeout(20):
            while not (apart(0, 1) < 0.5 * apart(0, 2) > 0.01 and apart(0, 1) < 0.5 * apart(1, 3)):
                await asyncio.sleep(0.05)
                for peer, span, pinger in zip(peers, spans, pingers, strict=True):
                    await announce(peer, span, pinger)
