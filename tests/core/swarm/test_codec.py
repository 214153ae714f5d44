"""What peers say to each other survives the wire, and what no peer would say is refused."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import FrameError
from core.ring.frames import (
    Ack,
    Breach,
    Broken,
    Drawn,
    Frame,
    Grant,
    Lane,
    Reserve,
    Reserved,
    Resume,
    Standing,
    Truncate,
    Turn,
)
from core.swarm.codec import LENGTH, pack, receive, unpack
from core.swarm.messages import (
    Close,
    Copy,
    Heard,
    Lease,
    Leaving,
    Message,
    Open,
    Probe,
    Pulse,
    Ready,
    Refuse,
    Standby,
)
from core.terms import Finish, PeerId, Sampling, Span, Token, WireDtype
from tests.core.swarm.fixed_bytes import Bytes

SESSION = bytes(range(16))
MESSAGES: list[Message] = [
    Open(
        SESSION,
        1,
        2,
        0,
        3,
        "bloom",
        "r",
        Span(0, 4),
        WireDtype.FLOAT32,
        2048,
        PeerId("12D3"),
        b"record",
        SESSION,
        1 << 33,
        40,
        True,
    ),
    Ready(SESSION, 2, 1, Standing(1 << 33, 700, 12)),
    Resume(SESSION, 2, 1, 1 << 33, 700, 650),
    Refuse(SESSION, 1, 1, "full", "all its places are taken"),
    Lease(15),
    Heard(15),
    Leaving(SESSION, 1, 3, 30),
    Copy(SESSION, 1, 2, b"record"),
    Standby(SESSION, 1, b"record"),
    Probe(SESSION, 3, 77),
    Pulse(SESSION, 1, 3, 77, 120, 100, 1 << 33, True),
    Close(SESSION),
    Frame(SESSION, 0, 1, Lane.BULK, 7, 1 << 33, 100, 3, (1, 2, 250_879)),
    Ack(SESSION, 0, 1, Lane.BULK, 3, -1),
    Turn(SESSION, 1, 1 << 40, 5, (9, 8), 7, Sampling(0.7, 40, 0.9, 1.1, 0.1, 0.2, -5, 3), frozenset({2, 3})),
    Drawn(SESSION, 1, 2, (Token(5, 9, -0.25, ((9, -0.25), (1, -3.0))), Token(6, 2, -1.0)), Finish.STOP),
    Drawn(SESSION, 1, 2, (Token(5, 9, float("-inf")),)),
    Reserve(SESSION, 1, 2048),
    Reserved(SESSION, 1, 1, 2048),
    Grant(SESSION, 1, 2, 99),
    Truncate(SESSION, 1, 2, 98),
    Broken(SESSION, 1, 1, Breach.GAP, "hop 3 came after 1"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    """All kinds, with all their fields."""
    data = pack(message)
    (length,) = LENGTH.unpack(data[:4])
    assert length == len(data) - 4
    assert unpack(data[4:]) == message


def test_every_kind_of_message_is_tried_here() -> None:
    """A new kind must be added to the table above."""
    from typing import get_args

    assert {type(message) for message in MESSAGES} == set(get_args(Message))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_field_of_a_wrong_kind_is_refused(message: Message) -> None:
    """Each field in turn, with what does not belong there; nothing but FrameError comes out."""
    values = msgpack.unpackb(pack(message)[4:], strict_map_key=False)
    for index in range(len(values)):
        for wrong in (None, {}, "x" * 3000, -(1 << 62), 1.5, [[]], b"", [1, "2"]):
            broken = [*values[:index], wrong, *values[index + 1 :]]
            try:
                unpack(msgpack.packb(broken))
            except FrameError:
                continue
            assert _may_be(message, index, wrong), (index, wrong)


def _may_be(message: Message, index: int, value: Any) -> bool:
    """The few replacements above that happen to be right."""
    name = "" if index == 0 else fields(message)[index - 1].name
    right = {"finish": [None], "following": [b""], "source": [b""], "seed": [-(1 << 62)], "why": ["x"]}
    return value in right.get(name, [])


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_frame_errors(data: bytes) -> None:
    """Whatever a stranger sends."""
    with pytest.raises(FrameError):
        unpack(data)


def test_ten_thousand_mutated_messages_are_read_or_refused() -> None:
    """One bit, byte or stretch of a real message changed: a message of the same shape, or FrameError."""
    rng = random.Random(3)
    refused = 0
    for _ in range(10_000):
        body = bytearray(pack(rng.choice(MESSAGES))[4:])
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(body))
            match rng.randrange(3):
                case 0:
                    body[at] ^= 1 << rng.randrange(8)
                case 1:
                    del body[at : at + rng.randint(1, 5)]
                    body = body or bytearray(b"\0")
                case 2:
                    body[at:at] = rng.randbytes(rng.randint(1, 5))
        try:
            unpack(bytes(body))
        except FrameError:
            refused += 1
    assert refused > 3000


async def test_a_length_is_bounded_before_it_is_read() -> None:
    """None can ask for gigabytes."""
    with pytest.raises(FrameError, match="larger"):
        await receive(Bytes(LENGTH.pack(1 << 30)))  # type: ignore[arg-type]


def test_a_message_too_large_to_send_is_refused_here() -> None:
    """Rather than cutting the stream at the other side."""
    turn = next(message for message in MESSAGES if isinstance(message, Turn))
    with pytest.raises(FrameError, match="too large"):
        pack(replace(turn, ids=tuple(range(300_000))))
