"""Control messages as bytes: each a big-endian length of 4 bytes and a msgpack list of a code and fields, at
most ``CONTROL_LIMIT`` bytes. Everything is checked here before anything acts on it.
"""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Any

import msgpack

from core.errors import FrameError
from core.ring.frames import (
    Ack,
    Breach,
    Broken,
    Drawn,
    Frame,
    Grant,
    Reserve,
    Reserved,
    Resume,
    Standing,
    Truncate,
    Turn,
)
from core.swarm import checks as a
from core.swarm.checks import CONTROL_LIMIT, POSITIONS, STAGES, Check
from core.swarm.frames import pack_ids
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
from core.swarm.peer import Stream
from core.terms import Finish, Sampling, Span, Token, WireDtype

CONTROL = "/idlebloom/1/control"
LENGTH = struct.Struct(">I")


# One row a message: its fields in the order of its declaration.
_CHECKS: dict[int, tuple[type, tuple[Check, ...]]] = {
    1: (
        Open,
        (
            a.session,
            a.epoch,
            a.rollback,
            a.stage,
            a.integer(1, STAGES),
            a.text(200),
            a.text(200),
            a.span,
            a.one_of(WireDtype),
            a.integer(1, POSITIONS),
            a.text(100),
            a.data(0, 2048),
            a.data(0, 16),
            a.rollback,
            a.position,
            a.truth,
            a.truth,
        ),
    ),
    2: (Ready, (a.session, a.stage, a.epoch, a.standing)),
    3: (Refuse, (a.session, a.stage, a.epoch, a.text(20), a.why)),
    4: (Lease, (a.epoch,)),
    5: (Close, (a.session,)),
    6: (
        Frame,
        (
            a.session,
            a.stage,
            a.epoch,
            a.lane,
            a.hop,
            a.rollback,
            a.position,
            a.integer(1, POSITIONS),
            a.ids,
        ),
    ),
    7: (Ack, (a.session, a.stage, a.epoch, a.lane, a.hop, a.hop)),
    8: (
        Turn,
        (
            a.session,
            a.epoch,
            a.rollback,
            a.position,
            a.ids,
            a.position,
            a.sampling,
            a.stops,
        ),
    ),
    9: (
        Drawn,
        (
            a.session,
            a.epoch,
            a.rollback,
            a.tokens,
            lambda value: None if value is None else a.one_of(Finish)(value),
        ),
    ),
    10: (Reserve, (a.session, a.epoch, a.position)),
    11: (Reserved, (a.session, a.stage, a.epoch, a.position)),
    12: (Grant, (a.session, a.epoch, a.rollback, a.position)),
    13: (Truncate, (a.session, a.epoch, a.rollback, a.position)),
    14: (Broken, (a.session, a.stage, a.epoch, a.one_of(Breach), a.why)),
    15: (Resume, (a.session, a.stage, a.epoch, a.rollback, a.position, a.position)),
    16: (Heard, (a.epoch,)),
    17: (Probe, (a.session, a.epoch, a.epoch)),
    18: (
        Pulse,
        (
            a.session,
            a.stage,
            a.epoch,
            a.epoch,
            a.position,
            a.position,
            a.rollback,
            a.truth,
        ),
    ),
    19: (Standby, (a.session, a.epoch, a.data(1, 2048))),
    20: (Leaving, (a.session, a.stage, a.epoch, a.integer(0, 86_400))),
    21: (Copy, (a.session, a.epoch, a.epoch, a.data(1, 2048))),
}
_CODES = {kind: code for code, (kind, _) in _CHECKS.items()}
_NAMES = {kind: tuple(f.name for f in fields(kind)) for kind in _CODES}


def _plain(value: Any) -> Any:
    """A field as msgpack can carry it."""
    match value:
        case Span():
            return [value.start, value.end]
        case Sampling() | Standing():
            return [getattr(value, f.name) for f in fields(value)]
        case Token():
            return [value.position, value.token_id, value.logprob, [list(pair) for pair in value.top]]
        case frozenset():
            return sorted(value)
        case tuple() if value and isinstance(value[0], int):
            return pack_ids(value)
        case tuple():
            return [_plain(item) for item in value]
    return value


def pack(message: Message) -> bytes:
    """A control message with its length in front."""
    kind = type(message)
    body: bytes = msgpack.packb([_CODES[kind], *(_plain(getattr(message, name)) for name in _NAMES[kind])])
    if len(body) > CONTROL_LIMIT:
        raise FrameError(f"a {kind.__name__} of {len(body)} bytes is too large to send")
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Message:
    """The message that ``body`` holds; ``FrameError`` with what is wrong for anything else."""
    try:
        values = msgpack.unpackb(body, raw=False, strict_map_key=False)
    except Exception as error:  # msgpack raises many kinds, none of them ours
        raise FrameError("bytes from a peer make no message") from error
    if not isinstance(values, list) or not values or type(values[0]) is not int:
        raise FrameError("bytes from a peer make no message")
    kind, checks = _CHECKS.get(values[0], (None, ()))
    if kind is None or len(values) != len(checks) + 1:
        raise FrameError(f"a message from a peer has an unknown shape (code {values[0]})")
    message = kind(*(check(value) for check, value in zip(checks, values[1:], strict=True)))
    if isinstance(message, Frame) and len(message.payload) != message.count:
        raise FrameError(f"a frame of {message.count} positions carries {len(message.payload)} ids")
    return message  # type: ignore[no-any-return]


async def receive(stream: Stream) -> Message:
    """The next control message of a stream."""
    (length,) = LENGTH.unpack(await stream.read(LENGTH.size))
    if not 0 < length <= CONTROL_LIMIT:
        raise FrameError(f"a message of {length} bytes is larger than allowed")
    return unpack(await stream.read(length))
