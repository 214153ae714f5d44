"""Who may open a session."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from core.ring.frames import Reserve, Reserved
from core.serving.dials import A_CLIENT
from core.swarm.codec import pack
from core.swarm.identity import Identity
from core.swarm.messages import Close, Ready, Refuse, Standby
from core.swarm.peer import Unreachable
from core.swarm.records import seal
from core.terms import DonorState, PeerId, Span, WireDtype
from tests.core.rings import FakeRing
from tests.core.serving.strangers import Stranger, hidden_frame, still_serves, tail


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"revision": "another"}, "model"),
        ({"span": Span(2, 8)}, "span"),
        ({"span": Span(3, 7)}, "span"),
        ({"stage": 3}, "span"),
        ({"max_length": 5000}, "bad"),
        ({"following": b"no record"}, "bad"),
        ({"wire": WireDtype.INT8}, "wire"),
    ],
    ids=["model", "outside", "half", "stage", "length", "record", "int8 for all"],
)
async def test_an_opening_that_does_not_fit_is_refused_with_a_reason(
    ring: FakeRing, changes: dict[str, Any], kind: str
) -> None:
    """And nothing is held for it."""
    stranger = Stranger(ring, 1)
    await stranger.dial()
    refusal = await stranger.say(stranger.opening(**changes))
    assert isinstance(refusal, Refuse)
    assert refusal.kind == kind
    assert len(ring.donors[1].sessions) == 0


async def test_a_session_is_its_first_clients(ring: FakeRing) -> None:
    """Another client cannot open it again."""
    stranger, _ = await tail(ring)
    thief = Stranger(ring, 1)
    thief.session = stranger.session
    await thief.dial()
    refusal = await thief.say(thief.opening(epoch=9))
    assert isinstance(refusal, Refuse)
    assert refusal.kind == "bad"


async def test_what_is_opened_ahead_begins_with_the_first_word_of_its_epoch(ring: FakeRing) -> None:
    """Until then the epoch before goes on; a later opening takes its place."""
    stranger, lane = await tail(ring)
    lane.write(hidden_frame(stranger.session))
    for epoch in (2, 3):
        assert isinstance(await stranger.say(stranger.opening(epoch=epoch, ahead=True)), Ready)
        [held] = ring.donors[1].sessions.table
        assert held.part.epoch == 1
    assert held.part.length == 4
    reserved = await stranger.say(Reserve(stranger.session, 3, 10))
    assert isinstance(reserved, Reserved)
    [held] = ring.donors[1].sessions.table
    assert (held.part.epoch, held.ahead) == (3, None)
    await stranger.say(stranger.opening(epoch=4, ahead=True))
    stranger.stream.write(pack(Close(stranger.session)))
    await still_serves(ring)


async def test_a_client_cannot_make_a_donor_dial_ever_new_strangers(
    ring: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor peers of another model; its session goes on."""
    stranger, _ = await tail(ring)
    donor = ring.donors[1]
    dialled: set[str] = set()

    async def dial(peer_id: str, *args: object, **more: object) -> None:
        dialled.add(peer_id)
        raise Unreachable(PeerId(peer_id), "nobody is there")

    monkeypatch.setattr(donor.peer, "dial", dial)
    ours = donor._record(DonorState.ONLINE)
    for number in range(2 * A_CLIENT):
        model = replace(ours.model, model_id="another") if number % 2 else ours.model
        for _ in range(2):
            who = Identity.make()
            record = replace(ours, peer_id=who.peer_id, model=model, near=())
            stranger.stream.write(pack(Standby(stranger.session, 1, seal(record, who))))
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    assert 0 < len(dialled) <= A_CLIENT
    assert all(held.part.broken is None for held in donor.sessions.table)
    monkeypatch.undo()
    await still_serves(ring)


async def test_a_cache_is_shared_with_its_own_client_alone(ring: FakeRing) -> None:
    """And only as it stood when the client said so."""
    session = ring.session()
    await ring.ask(session, list(range(3, 60)), 4)
    own = Stranger(ring, 1, ring.client)
    await own.dial()
    more = {"source": session.id, "source_rollback": session._client.rollback, "shared": 40}
    taken = await own.say(own.opening(**more))
    assert isinstance(taken, Ready)
    assert taken.standing.length == 40
    later = await own.say(own.opening(**more | {"session": b"l" * 16, "source_rollback": 1 << 40}))
    assert isinstance(later, Ready)
    assert later.standing.length == 0
    stranger = Stranger(ring, 1)
    await stranger.dial()
    refused = await stranger.say(stranger.opening(**more))
    assert isinstance(refused, Ready)
    assert refused.standing.length == 0
