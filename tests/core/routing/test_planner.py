"""Routes over what donors have measured, and readers spread over equal donors, in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from core.routing.connections import Connections
from core.routing.opening import Failed, Undialable
from core.routing.planner import READER, Planner, loaded, sends_slowly
from core.routing.seen import LEAST_ROUNDS, Pace
from core.swarm.codec import CONTROL, pack, receive
from core.swarm.fake import FakePeer, FakeSwarm
from core.swarm.messages import Heard, Lease
from core.swarm.peer import Stream
from core.swarm.pinger import Pinger
from core.terms import DonorState, ModelRef, PeerId, Record, Route, Span, Stage, WireDtype

MODEL = ModelRef("bloom", "main", 8)
HIDDEN = 64


def record(peer: FakePeer, span: Span, **more: object) -> Record:
    plain = Record(
        peer.peer_id, MODEL, span, DonorState.ONLINE, 1.0, 0.0, step_seconds=0.01, free_tokens=4096
    )
    return replace(plain, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def planning(client: FakePeer) -> AsyncIterator[Planner]:
    connections = Connections(client)
    planner = Planner(client, MODEL, HIDDEN, connections)
    try:
        yield planner
    finally:
        connections.close()
        await planner.close()


async def answering(stream: Stream) -> None:
    while True:
        message = await receive(stream)
        if isinstance(message, Lease):
            stream.write(pack(Heard(message.number)))


async def test_the_near_donor_is_chosen_once_the_ways_are_measured() -> None:
    """Its neighbour has measured both; what is predicted then holds the way there and back."""
    swarm = FakeSwarm()
    entry, near, far = (swarm.peer() for _ in range(3))
    for link in swarm.wires(entry.peer_id, far.peer_id):
        link.delay = 0.25
    spans = {entry.peer_id: Span(0, 4), near.peer_id: Span(4, 8), far.peer_id: Span(4, 8)}
    for peer in (entry, near, far):
        await peer.serve(CONTROL, answering)
        seconds = 0.009 if peer is far else 0.01
        await peer.directory.announce(record(peer, spans[peer.peer_id], step_seconds=seconds))
    async with planning(swarm.peer()) as planner:
        before = await planner.way(1, (), None)
        assert before.route.tail.peer_id == far.peer_id  # the faster, as far as anybody knows
        pinger = Pinger(entry, MODEL, Span(0, 4), pace=0.02)
        pinger.start()
        async with asyncio.timeout(20):
            while len(pinger.near) < 2:  # noqa: ASYNC110 nothing tells when
                await asyncio.sleep(0.01)
        await pinger.close()
        await entry.directory.announce(record(entry, Span(0, 4), near=pinger.near))
        await planner.records(fresh=True)
        after = await planner.way(2, (), None)
        assert after.route.tail.peer_id == near.peer_id
        assert after.standbys == {1: far.peer_id}
        assert after.route.predicted_seconds < 0.5
        moved = await planner.way(2, {near.peer_id}, after.route)
        assert moved.route.predicted_seconds > 0.5


async def test_readers_of_one_client_spread_over_equal_donors_at_once() -> None:
    """No record tells yet that the first has taken a place; eight readers make four each."""
    swarm = FakeSwarm()
    donors = [swarm.peer() for _ in range(2)]
    for donor in donors:
        await donor.directory.announce(record(donor, Span(0, 8)))
    async with planning(swarm.peer()) as planner:
        ways = [await planner.way(number, (), None) for number in range(8)]
        used = Counter(way.route.entry.peer_id for way in ways)
        assert sorted(used.values()) == [4, 4]
        gone = [number for number, way in enumerate(ways) if way.route.entry.peer_id == donors[0].peer_id]
        for number in gone:
            planner.forget(number)
        again = [await planner.way(100 + number, (), None) for number in range(4)]
        assert {way.route.entry.peer_id for way in again} == {donors[0].peer_id}


async def test_readers_of_other_clients_are_seen_in_the_records() -> None:
    """Who has few is taken before who has many, and before who has no cache left."""
    swarm = FakeSwarm()
    busy, calm, full = (swarm.peer() for _ in range(3))
    await busy.directory.announce(record(busy, Span(0, 8), readers=8))
    await calm.directory.announce(record(calm, Span(0, 8), readers=1))
    await full.directory.announce(record(full, Span(0, 8), free_tokens=10))
    async with planning(swarm.peer()) as planner:
        assert {(await planner.way(n, (), None)).route.entry.peer_id for n in (1, 2)} == {calm.peer_id}


async def test_a_pair_that_cannot_dial_is_planned_around() -> None:
    """Both stay in use, beside others; with nobody else they are tried all the same."""
    swarm = FakeSwarm()
    peers = [swarm.peer() for _ in range(4)]
    spans = [Span(0, 4), Span(0, 4), Span(4, 8), Span(4, 8)]
    for peer, span in zip(peers, spans, strict=True):
        await peer.directory.announce(record(peer, span))
    one, other, third, fourth = (peer.peer_id for peer in peers)
    async with planning(swarm.peer()) as planner:
        for number in range(4):
            await planner.way(number, (), None)
        planner.trouble(Undialable(one, third))
        planner.trouble(Undialable(other, fourth))
        for number in range(10, 18):
            route = (await planner.way(number, (), None)).route
            assert (route.entry.peer_id, route.tail.peer_id) in {(one, fourth), (other, third)}
        alone = (await planner.way(20, (other, fourth), None)).route
        assert (alone.entry.peer_id, alone.tail.peer_id) == (one, third)


async def test_a_plan_around_a_lost_donor_does_not_wait_for_a_slow_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is known does, where it holds a route; else what is read is waited for."""
    monkeypatch.setattr("core.routing.planner.READ_SECONDS", 0.01)
    swarm = FakeSwarm()
    lost, other, late = (swarm.peer() for _ in range(3))
    for peer in (lost, other):
        await peer.directory.announce(record(peer, Span(0, 8)))
    client, slow = swarm.peer(), asyncio.Event()
    async with planning(client) as planner:
        await planner.records(fresh=True)
        read = client.directory.read

        async def slowly(*what: object) -> tuple[Record, ...]:
            await slow.wait()
            return await read(*what)  # type: ignore[arg-type]

        monkeypatch.setattr(client.directory, "read", slowly)
        await late.directory.announce(record(late, Span(0, 8)))
        way = await planner.way(1, {lost.peer_id}, None)
        assert way.route.entry.peer_id == other.peer_id
        around = asyncio.create_task(planner.way(1, {lost.peer_id, other.peer_id}, None))
        slow.set()
        assert (await around).route.entry.peer_id == late.peer_id


async def test_plans_that_wait_for_one_reading_do_not_meet_the_next() -> None:
    """Many readers lose a donor at once, and some of them again as soon as it is read."""
    swarm = FakeSwarm()
    lost, other = swarm.peer(), swarm.peer()
    for peer in (lost, other):
        await peer.directory.announce(record(peer, Span(0, 8)))
    async with planning(swarm.peer()) as planner:
        await planner.records(fresh=True)

        async def again_and_again(session: int) -> set[PeerId]:
            ways = [await planner.way(session, {lost.peer_id}, None) for _ in range(5)]
            return {way.route.entry.peer_id for way in ways}

        assert await asyncio.gather(*map(again_and_again, range(8))) == [{other.peer_id}] * 8


async def test_who_was_kept_warm_takes_over() -> None:
    """Among equals the standby that was named is the one that replaces."""
    swarm = FakeSwarm()
    donors = [swarm.peer() for _ in range(6)]
    for donor in donors:
        await donor.directory.announce(record(donor, Span(0, 8)))
    async with planning(swarm.peer()) as planner:
        for number in range(5):
            way = await planner.way(number, (), None)
            moved = await planner.way(number, {way.route.entry.peer_id}, way.route)
            assert moved.route.entry.peer_id == way.standbys[0]


@pytest.mark.parametrize(
    ("readers", "ours", "free", "factor"),
    [(0, 0, 4096, 1.0), (3, 0, 4096, 1 + 3 * READER), (3, 5, 4096, 1 + 5 * READER), (0, 0, 0, 1.2)],
)
def test_load_makes_a_donor_slower(readers: int, ours: int, free: int, factor: float) -> None:
    """Our readers may be among those that its record counts, so they are not added."""
    one = Record(
        PeerId("p"), MODEL, Span(0, 8), DonorState.ONLINE, 0.0, 1e12, free_tokens=free, readers=readers
    )
    assert loaded(one, ours) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("upload", "prefill", "able", "narrow"),
    [
        (0.0, 1000.0, "ab", False),
        (50e6, 1000.0, "ab", False),
        (1.25e6, 1000.0, "ab", True),
        (1.25e6, 20.0, "ab", False),
        (1.25e6, 1000.0, "a", False),
        (1.25e6, 1000.0, "b", False),
    ],
    ids=["not measured", "fast", "slow", "slow to run too", "a tail that cannot", "an entry that cannot"],
)
def test_prompts_are_narrowed_where_a_measured_upload_binds_them(
    upload: float, prefill: float, able: str, narrow: bool
) -> None:
    """28.7 KB a row, as of BLOOM-176B; the tail's upload is no matter. All must take int8."""
    wide = (WireDtype.BFLOAT16, WireDtype.FLOAT32)
    spans = [Span(0, 4), Span(4, 8)]
    records = {
        PeerId(name): Record(
            PeerId(name),
            MODEL,
            span,
            DonorState.ONLINE,
            0.0,
            1e12,
            prefill_rate=prefill,
            upload_rate=rate,
            wire=(*wide, WireDtype.INT8) if name in able else wide,
        )
        for name, span, rate in zip("ab", spans, (upload, 1.0), strict=True)
    }
    route = Route(tuple(Stage(peer, record.span) for peer, record in records.items()))
    assert sends_slowly(route, records, 28_672) is narrow


async def test_a_boaster_loses_its_readers_once_answers_have_told() -> None:
    """The route goes around it, and whoever places layers learns of it too; nobody else is doubted."""
    swarm = FakeSwarm()
    honest, boaster = swarm.peer(), swarm.peer()
    await honest.directory.announce(record(honest, Span(0, 8), step_seconds=0.15))
    await boaster.directory.announce(record(boaster, Span(0, 8), step_seconds=0.0002))
    now = 0.0
    pace = Pace(lambda: now)
    for _ in range(LEAST_ROUNDS + 1):
        pace.drawn()
        now += 0.2
    async with planning(swarm.peer()) as planner:
        for number in range(4):
            way = await planner.way(number, (), None)
            planner.answered(number, way.route, pace)
            planner.end(number)
        assert (await planner.way(9, (), None)).route.entry.peer_id == honest.peer_id
        claims = {one.peer_id: one.step_seconds for one in await planner.believed()}
        assert claims[honest.peer_id] == 0.15 < claims[boaster.peer_id]


async def test_who_fails_again_and_again_is_ranked_below_its_equals() -> None:
    """For longer than it is left out: by what this reader sees alone."""
    swarm = FakeSwarm()
    donors = [swarm.peer() for _ in range(2)]
    for donor in donors:
        await donor.directory.announce(record(donor, Span(0, 8)))
    async with planning(swarm.peer()) as planner:
        bad = (await planner.way(0, (), None)).route.entry.peer_id
        planner.trouble(Failed(bad, heals=False))
        planner.forget(0)
        assert planner.experience.trust(bad) < 0.5
        assert planner.experience.rank(bad) > 1.2
        planner._suspects._failures.clear()  # a minute later
        entries = {(await planner.way(number, (), None)).route.entry.peer_id for number in range(1, 5)}
        assert entries == {donor.peer_id for donor in donors} - {bad}
