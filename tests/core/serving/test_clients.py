"""What a donor does with what clients say."""

from __future__ import annotations

import asyncio

import pytest

from core.ring.frames import TURN, Broken, Drawn, Frame, Grant, Lane, Reserve, Reserved, Turn
from core.swarm.codec import pack
from core.swarm.messages import Close
from core.terms import Sampling
from tests.core.rings import FakeRing
from tests.core.serving.strangers import Stranger, hidden_frame, still_serves, tail


@pytest.mark.parametrize("token_id", [97, 2**31 - 1])
async def test_a_token_id_outside_the_vocabulary_never_reaches_the_model(
    ring: FakeRing, token_id: int
) -> None:
    """Neither at the entry nor in the tail's history."""
    entry = Stranger(ring, 0)
    await entry.dial()
    await entry.say(entry.opening(previous=ring.donors[1].peer.peer_id))
    frame = Frame(entry.session, 0, 1, Lane.BULK, 0, TURN, 0, 2, (3, token_id))
    broken = await entry.say(frame)
    assert isinstance(broken, Broken)
    assert "outside the vocabulary" in broken.why
    stranger, _ = await tail(ring)
    turn = Turn(stranger.session, 1, TURN, 0, (3, token_id), 2, Sampling(), frozenset())
    broken = await stranger.say(turn)
    assert isinstance(broken, Broken)
    assert "outside the vocabulary" in broken.why
    await still_serves(ring)


async def test_the_tail_answers_by_hand(ring: FakeRing) -> None:
    """Frames, a turn and a reservation make a token; closing frees the cache at once."""
    stranger, lane = await tail(ring)
    turn = Turn(stranger.session, 1, TURN, 0, (3, 4, 5, 6), 4, Sampling(logprobs=3), frozenset())
    stranger.stream.write(pack(turn))
    lane.write(hidden_frame(stranger.session))
    drawn = await stranger.hear()
    while not isinstance(drawn, Drawn):
        drawn = await stranger.hear()
    assert drawn.tokens[0].position == 4
    assert len(drawn.tokens[0].top) == 3
    answers = [await stranger.say(Reserve(stranger.session, 1, 100))]
    while not isinstance(answers[-1], Reserved):
        answers.append(await stranger.hear())
    pool = ring.donors[1].pool
    assert pool.capacity - pool.free_tokens >= 100
    stranger.stream.write(pack(Close(stranger.session)))
    await asyncio.sleep(0.05)
    assert pool.free_tokens == pool.capacity


async def test_credit_holds_the_tail(ring: FakeRing) -> None:
    """Without a grant nothing goes into the ring; the same frame twice draws one token."""
    stranger, lane = await tail(ring)
    turn = Turn(stranger.session, 1, TURN, 0, (3, 4, 5, 6), 4, Sampling(), frozenset())
    stranger.stream.write(pack(turn))
    lane.write(hidden_frame(stranger.session) * 2)
    heard = await stranger.hear_all(0.2)
    assert sum(isinstance(message, Drawn) for message in heard) == 1
    stranger.stream.write(pack(Grant(stranger.session, 1, TURN, 50)))
    [held] = ring.donors[1].sessions.table
    await asyncio.sleep(0.05)
    assert held.part.credit == 50
