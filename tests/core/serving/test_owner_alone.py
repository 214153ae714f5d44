"""A donor whose owner is back and chats: theirs alone, and everyone's again after."""

from __future__ import annotations

import asyncio

import pytest

from core.model.config import ref
from core.swarm.messages import Refuse
from core.terms import DonorState
from tests.core.rings import FakeRing
from tests.core.serving.strangers import Stranger

PROMPT = [5, 6, 7, 8]


async def state_of(ring: FakeRing, number: int) -> DonorState | None:
    """How others see it."""
    records = await ring.client.directory.read(ref(ring.config))
    peer = ring.donors[number].peer.peer_id
    return next((record.state for record in records if record.peer_id == peer), None)


async def until_seen(ring: FakeRing, number: int, state: DonorState) -> None:
    async with asyncio.timeout(10):
        while await state_of(ring, number) is not state:  # noqa: ASYNC110 – a directory tells no news
            await asyncio.sleep(0.01)


async def test_the_owner_goes_on_and_others_are_given_up(ring: FakeRing) -> None:
    """The owner's session answers as before, others' ends, new ones are refused with the reason, and the
    directory says *leaving*; when the owner is away again, everyone is welcome."""
    mine, theirs = ring.session(), Stranger(ring, 1)
    first = await ring.ask(mine, PROMPT, 5)
    await theirs.dial()
    assert not isinstance(await theirs.say(theirs.opening()), Refuse)
    for donor in ring.donors:
        donor.serve_only(ring.client.peer_id)
    assert {held.client for donor in ring.donors for held in donor.sessions.table} == {ring.client.peer_id}
    late = Stranger(ring, 1)
    await late.dial()
    refusal = await late.say(late.opening())
    assert isinstance(refusal, Refuse) and refusal.kind == "leaving"
    await until_seen(ring, 1, DonorState.LEAVING)
    assert await ring.ask(mine, [*PROMPT, *first], 5)
    for donor in ring.donors:
        donor.serve_only(None)
    await until_seen(ring, 1, DonorState.ONLINE)
    again = Stranger(ring, 1)
    await again.dial()
    assert not isinstance(await again.say(again.opening()), Refuse)
    mine.close()


async def test_what_was_served_is_counted_once(ring: FakeRing) -> None:
    """A token at each donor that ran its step, a conversation at each that had a part in it."""
    session = ring.session()
    tokens = await ring.ask(session, PROMPT, 9)
    for donor in ring.donors:
        counts = donor.counts
        assert counts.conversations == 1 and counts.sessions == 1
        # The first token is drawn by the prompt's last step, and the last one is never run.
        assert len(tokens) - 2 <= counts.tokens <= len(tokens) + 2
        assert counts.up_bytes > 0 and counts.down_bytes > 0
    session.close()


@pytest.mark.parametrize(("part", "pause"), [(0.0, 0.0), (0.5, 0.1), (0.8, 0.4), (1.0, 1.9)])
async def test_a_warm_device_rests_for_a_part_of_the_time(ring: FakeRing, part: float, pause: float) -> None:
    """After each step, as long as that took in proportion; never for long."""
    donor = ring.donors[0]
    donor.rest_for(part)
    assert donor.engine._pause(0.1) == pytest.approx(pause)
    assert donor.engine._pause(100.0) <= 2.0
    session = ring.session()
    assert len(await ring.ask(session, PROMPT, 3)) == 3
    session.close()
