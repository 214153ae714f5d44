"""What a donor does with neighbours that break the rules."""

from __future__ import annotations

import asyncio
import random
import secrets
import struct
from contextlib import suppress
from typing import Any

import pytest

from core.ring.frames import TURN, Breach, Broken, Turn
from core.swarm.codec import CONTROL, pack
from core.swarm.frames import BULK, DECODE, HEADER, Dtype, Kind, read_header
from core.swarm.messages import Close
from core.swarm.peer import StreamClosed
from core.terms import Sampling
from tests.core.rings import FakeRing
from tests.core.serving.strangers import HIDDEN, Stranger, hidden_frame, still_serves, tail


@pytest.mark.parametrize(
    ("changes", "breach", "words"),
    [
        ({"payload": bytes(3 * HIDDEN * 4)}, Breach.INPUT, "4 positions came with 576 bytes"),
        (
            {"payload": bytes(4 * HIDDEN * 2), "dtype": Dtype.BFLOAT16},
            Breach.INPUT,
            "bfloat16 where float32",
        ),
        ({"payload": bytes(16), "dtype": Dtype.IDS}, Breach.INPUT, "ids where float32"),
        ({"start": 5}, Breach.POSITION, "start 5 where 0 was due"),
        ({"start": 198}, Breach.INPUT, "position 202 is beyond"),
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


async def test_numbers_that_are_none_never_reach_the_model(ring: FakeRing) -> None:
    """Whoever sent them is named by where they came from: the stage before."""
    stranger, lane = await tail(ring)
    turn = Turn(stranger.session, 1, TURN, 0, (3, 4, 5, 6), 4, Sampling(), frozenset())
    stranger.stream.write(pack(turn))
    payload = bytes(4 * HIDDEN * 4 - 4) + struct.pack("<f", float("nan"))
    lane.write(hidden_frame(stranger.session, payload=payload))
    answer = await stranger.hear()
    assert isinstance(answer, Broken)
    assert answer.breach is Breach.INPUT
    assert "numbers that are none" in answer.why
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
    [held] = ring.donors[1].sessions.table
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


async def test_ten_thousand_mutated_frames_crash_nothing(ring: FakeRing) -> None:
    """Real frames of open sessions with bytes changed, lost and added: whatever they say, the donor goes on
    serving others, and rightly."""
    chance, sent = random.Random(7), 0
    while sent < MUTATED:
        stranger, lane = await tail(ring)
        session, open_lane = stranger.session, lane
        for _ in range(200):
            if open_lane.closed:
                open_lane = await stranger.peer.dial(
                    stranger.donor.peer.peer_id, stranger.donor.peer.addresses, chance.choice((BULK, DECODE))
                )
            frame = hidden_frame(session, hop=chance.randrange(3), count=4)
            with suppress(StreamClosed):
                open_lane.write(mutated(frame, chance))
                if not chance.randrange(4):
                    open_lane.close()
            sent += 1
            if not sent % 20:
                await asyncio.sleep(0)
        open_lane.close()
        stranger.stream.write(pack(Close(session)))
        await asyncio.sleep(0.05)
        stranger.stream.close()
    await still_serves(ring)


MUTATED = 10_000


def mutated(frame: bytes, chance: random.Random) -> bytes:
    """One to four changes, most of them where the header is."""
    data = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(HEADER.size if chance.random() < 0.8 else len(data))
        match chance.randrange(4):
            case 0:
                data[min(place, len(data) - 1)] = chance.randrange(256)
            case 1:
                data[min(place, len(data) - 1)] ^= 1 << chance.randrange(8)
            case 2:
                del data[place : place + chance.randint(1, 16)]
            case _:
                data[place:place] = chance.randbytes(chance.randint(1, 16))
    return bytes(data) or b"\x00"
