"""What a donor does with clients and neighbours that break the rules, leave, or ask for too much."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.ring import TURN, Breach, Broken, Drawn, Frame, Grant, Lane, Reserve, Reserved, Resume, Turn
from core.serving import sessions as sessions_module
from core.serving.donor import DonorOptions
from core.swarm.fake import FakePeer
from core.swarm.messages import (
    BULK,
    CONTROL,
    DECODE,
    HEADER,
    Close,
    Dtype,
    Kind,
    Lease,
    Message,
    Open,
    Ready,
    Refuse,
    pack,
    pack_frame,
    read_header,
    receive,
)
from core.swarm.peer import Stream, StreamClosed
from core.terms import Sampling, Span, WireDtype
from tests.core.rings import FakeRing, fake_ring, greedy, make_checkpoint, reference

HIDDEN, LAYERS = 48, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("bloom"))


@pytest.fixture
async def ring(folder: Path) -> AsyncIterator[FakeRing]:
    async with fake_ring(folder, [(0, 3), (3, 8)]) as made:
        yield made


class Stranger:
    """A client that speaks the protocol by hand, to one donor."""

    def __init__(self, ring: FakeRing, donor: int, peer: FakePeer | None = None) -> None:
        self.ring, self.donor = ring, ring.donors[donor]
        self.peer = peer or ring.swarm.peer()
        self.session = secrets.token_bytes(16)
        self.stream: Stream

    async def dial(self, protocol: str = CONTROL) -> Stream:
        target = self.donor.peer
        self.stream = await self.peer.dial(target.peer_id, target.addresses, protocol)
        return self.stream

    def opening(self, **changes: Any) -> Open:
        span = self.donor.model.span
        fields: dict[str, Any] = {
            "session": self.session,
            "epoch": 1,
            "rollback": TURN,
            "stage": 0 if span.start == 0 else 1,
            "stages": 2,
            "model_id": self.ring.config.model_id,
            "revision": self.ring.config.revision,
            "span": span,
            "wire": WireDtype.FLOAT32,
            "max_length": 200,
            "previous": self.peer.peer_id,
            "following": b"",
        }
        return Open(**{**fields, **changes})

    async def say(self, message: Message) -> Message:
        self.stream.write(pack(message))
        return await self.hear()

    async def hear_all(self, seconds: float) -> list[Message]:
        """Everything said until ``seconds`` of silence."""
        heard: list[Message] = []
        try:
            while True:
                heard.append(await asyncio.wait_for(receive(self.stream), seconds))
        except TimeoutError:
            return heard

    async def hear(self) -> Message:
        return await asyncio.wait_for(receive(self.stream), 3)


async def tail(ring: FakeRing) -> tuple[Stranger, Stream]:
    """A stranger whose session is open at the tail, and who is the stage before it too."""
    stranger = Stranger(ring, 1)
    control = await stranger.dial()
    assert isinstance(await stranger.say(stranger.opening()), Ready)
    control.write(pack(Resume(stranger.session, 1, TURN, 0, 0)))
    lane = await stranger.dial(BULK)
    stranger.stream = control
    return stranger, lane


def hidden_frame(session: bytes, **changes: Any) -> bytes:
    """A frame of 4 positions for the tail, and its payload."""
    fields: dict[str, Any] = {
        "session": session,
        "stage": 1,
        "epoch": 1,
        "lane": Lane.BULK,
        "hop": 0,
        "rollback": TURN,
        "start": 0,
        "count": 4,
        "payload": bytes(4 * HIDDEN * 4),
    }
    dtype = changes.pop("dtype", Dtype.FLOAT32)
    frame = Frame(**{**fields, **changes})
    return pack_frame(frame, dtype) + frame.payload


async def still_serves(ring: FakeRing) -> None:
    """Another reader's answer is right."""
    model = reference(ring.folder)
    assert await ring.ask(ring.session(), [4, 5, 6], 8) == greedy(model, [4, 5, 6], 8)


@pytest.mark.parametrize(
    ("changes", "breach", "words"),
    [
        ({"payload": bytes(3 * HIDDEN * 4)}, Breach.NONSENSE, "4 positions came with 576 bytes"),
        (
            {"payload": bytes(4 * HIDDEN * 2), "dtype": Dtype.BFLOAT16},
            Breach.NONSENSE,
            "bfloat16 where float32",
        ),
        ({"payload": bytes(16), "dtype": Dtype.IDS}, Breach.NONSENSE, "ids where float32"),
        ({"start": 5}, Breach.POSITION, "start 5 where 0 was due"),
        ({"start": 198}, Breach.NONSENSE, "position 202 is beyond"),
        ({"hop": 3}, Breach.GAP, "hop 3 came after -1"),
        ({"start": 2, "rollback": 5 * TURN}, Breach.POSITION, "beyond the cache's end"),
    ],
    ids=["length", "dtype", "ids", "position", "beyond", "gap", "rollback"],
)
async def test_a_bad_frame_ends_its_own_session_alone(
    ring: FakeRing, changes: dict[str, Any], breach: Breach, words: str
) -> None:
    """Its client is told what is wrong, and the donor goes on serving others."""
    stranger, lane = await tail(ring)
    lane.write(hidden_frame(stranger.session, **changes))
    answer = await stranger.hear()
    assert isinstance(answer, Broken)
    assert answer.breach is breach
    assert words in answer.why
    await still_serves(ring)


async def test_a_frame_for_an_unknown_session_is_answered_so(ring: FakeRing) -> None:
    """The sender learns that its next stage knows no such session."""
    _, lane = await tail(ring)
    lane.write(hidden_frame(secrets.token_bytes(16)))
    header = await asyncio.wait_for(read_header(lane), 3)
    assert header.kind is Kind.UNKNOWN
    await still_serves(ring)


async def test_frames_are_taken_only_from_the_named_neighbour(ring: FakeRing) -> None:
    """A stranger who learned a session's id can neither feed nor end it."""
    stranger, _ = await tail(ring)
    other = Stranger(ring, 1)
    lane = await other.dial(BULK)
    lane.write(hidden_frame(stranger.session, count=1, payload=b"nonsense"))
    await other.dial()
    other.stream.write(pack(Close(stranger.session)))
    await asyncio.sleep(0.05)
    [held] = ring.donors[1].sessions._held.values()
    assert held.part.length == 0
    assert held.part.broken is None


async def test_bytes_that_are_no_frame_end_the_stream_alone(ring: FakeRing) -> None:
    """Garbage, huge lengths and half messages cost their sender its stream."""
    for protocol, data in [
        (CONTROL, struct.pack(">I", 1 << 31)),
        (CONTROL, struct.pack(">I", 5) + b"\xc1" * 5),
        (DECODE, b"\xff" * HEADER.size),
        (BULK, hidden_frame(b"x" * 16)[: HEADER.size - 4] + struct.pack(">I", 1 << 30)),
    ]:
        stream = await Stranger(ring, 1).dial(protocol)
        stream.write(data)
        with pytest.raises(StreamClosed):
            await asyncio.wait_for(stream.read(1), 3)
    await still_serves(ring)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"revision": "another"}, "model"),
        ({"span": Span(2, 8)}, "span"),
        ({"span": Span(3, 7)}, "span"),
        ({"stage": 3}, "span"),
        ({"max_length": 5000}, "bad"),
        ({"following": b"no record"}, "bad"),
    ],
    ids=["model", "outside", "half", "stage", "length", "record"],
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


async def test_more_cache_than_there_is_is_refused_in_words(ring: FakeRing) -> None:
    """Beyond the session's own length too."""
    stranger, _ = await tail(ring)
    broken = await stranger.say(Reserve(stranger.session, 1, 201))
    assert isinstance(broken, Broken)
    assert broken.breach is Breach.FULL


async def test_idle_sessions_give_way_and_are_rebuilt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full donor frees what was idle longest; its reader notices nothing but time."""
    monkeypatch.setattr(sessions_module, "BUSY_SECONDS", 0.0)
    model = reference(folder)
    async with fake_ring(folder, []) as ring:
        await ring.add(Span(0, LAYERS), DonorOptions(cache_tokens=128, places=2))
        ids = list(range(3, 60))
        first = ring.session()
        held = await ring.ask(first, ids, 4)
        for other in range(3):
            assert await ring.ask(ring.session(), [other, *ids], 4) == greedy(model, [other, *ids], 4)
        more = [*ids, *held, 7]
        assert await ring.ask(first, more, 4) == greedy(model, more, 4)


async def test_a_session_larger_than_the_pool_gets_a_clear_refusal(folder: Path) -> None:
    """No other donor has room either: the reader hears why."""
    from core.errors import SwarmError

    async with fake_ring(folder, []) as ring:
        await ring.add(Span(0, LAYERS), DonorOptions(cache_tokens=64, places=2))
        with pytest.raises(SwarmError, match="cache is full"):
            await ring.ask(ring.session(), list(range(90)), 4)


async def test_without_a_lease_a_session_is_parked_then_freed(
    ring: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that fell silent holds nothing for long; a lease in time keeps everything."""
    stranger, _ = await tail(ring)
    sessions = ring.donors[1].sessions
    [held] = sessions._held.values()
    monkeypatch.setattr(sessions_module, "LEASE_SECONDS", 0.0)
    await asyncio.sleep(0.01)
    sessions.sweep()
    assert held.parked
    monkeypatch.setattr(sessions_module, "LEASE_SECONDS", 15.0)
    stranger.stream.write(pack(Lease(15)))
    await asyncio.sleep(0.01)
    sessions.sweep()
    assert not held.parked
    monkeypatch.setattr(sessions_module, "IDLE_SECONDS", 0.0)
    sessions.sweep()
    assert len(sessions) == 0
    _, lapsed = await stranger.hear_all(0.2)
    assert isinstance(lapsed, Broken)
    assert lapsed.breach is Breach.LAPSED


async def test_a_donor_that_leaves_tells_its_readers(ring: FakeRing) -> None:
    """And refuses new ones."""
    stranger, _ = await tail(ring)
    await ring.donors[1].stop()
    broken = await stranger.hear()
    assert isinstance(broken, Broken)
    assert broken.breach is Breach.LEAVING
    refusal = await stranger.say(stranger.opening(epoch=2))
    assert isinstance(refusal, Refuse)
    assert refusal.kind == "leaving"


async def test_credit_holds_the_tail(ring: FakeRing) -> None:
    """Without a grant nothing goes into the ring; the same frame twice draws one token."""
    stranger, lane = await tail(ring)
    turn = Turn(stranger.session, 1, TURN, 0, (3, 4, 5, 6), 4, Sampling(), frozenset())
    stranger.stream.write(pack(turn))
    lane.write(hidden_frame(stranger.session) * 2)
    heard = await stranger.hear_all(0.2)
    assert sum(isinstance(message, Drawn) for message in heard) == 1
    stranger.stream.write(pack(Grant(stranger.session, 1, TURN, 50)))
    [held] = ring.donors[1].sessions._held.values()
    await asyncio.sleep(0.05)
    assert held.part.credit == 50


async def test_logs_of_outputs_stay_below_their_cap(folder: Path) -> None:
    """Those of sessions that were idle longest go first, and no text changes."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 8)]) as ring:
        entry = ring.donors[0].sessions
        entry.log_bytes = 100 * HIDDEN * 4
        prompts = [list(range(first, first + 60)) for first in (3, 13, 23)]
        readers = [ring.session() for _ in prompts]
        for session, ids in zip(readers, prompts, strict=True):
            assert await ring.ask(session, ids, 4) == greedy(model, ids, 4)
        entry.sweep()
        sizes = [held.part.log.size for held in entry._held.values()]
        assert sum(sizes) <= entry.log_bytes
        assert sizes[:2] == [0, 0]
        assert sizes[2] > 0
        assert entry.free_log_bytes == entry.log_bytes - sum(sizes)
