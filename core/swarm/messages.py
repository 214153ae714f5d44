"""What peers say to each other, as bytes; everything is checked here before anything acts on it.

Two kinds of stream carry two kinds of bytes:

* ``CONTROL``, between a client and each stage: messages, each a big-endian length of 4 bytes and a
  msgpack list of a code and fields. At most ``CONTROL_LIMIT`` bytes.
* ``DECODE`` and ``BULK``, from a stage to the next: a fixed header of ``HEADER.size`` bytes and raw
  tensor bytes; acknowledgements come back on the same stream.

Lengths, dtypes and positions are known from the header, so a receiver compares them with the session
before it reads, allocates or runs anything.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from itertools import pairwise
from typing import Any

import msgpack

from core.errors import FrameError
from core.ring import (
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
from core.swarm.peer import Stream
from core.terms import Finish, PeerId, Sampling, Span, Token, WireDtype

CONTROL = "/idlebloom/1/control"
DECODE = "/idlebloom/1/decode"
BULK = "/idlebloom/1/bulk"
LANES = {Lane.DECODE: DECODE, Lane.BULK: BULK}

CONTROL_LIMIT = 1 << 20
PAYLOAD_LIMIT = 64 << 20
POSITIONS = 1 << 24
STAGES = 128
ALTERNATIVES = 20
"""Most alternatives that a token is reported with."""

HEADER = struct.Struct(">B16sBIBiQIIBI")
LENGTH = struct.Struct(">I")


class Kind(IntEnum):
    FRAME = 1
    ACK = 2
    UNKNOWN = 3
    """The receiver knows no such session: its sender's part has nowhere to go."""


class Dtype(IntEnum):
    """What a frame's payload holds; ``size`` is bytes an element."""

    IDS = 1
    FLOAT32 = 2
    BFLOAT16 = 3

    @property
    def size(self) -> int:
        return 2 if self is Dtype.BFLOAT16 else 4


WIRE = {WireDtype.FLOAT32: Dtype.FLOAT32, WireDtype.BFLOAT16: Dtype.BFLOAT16}


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed part of what travels between stages. For ``ACK``, ``hop`` is the last one received
    and ``start`` one more than the last one run."""

    kind: Kind
    session: bytes
    stage: int
    epoch: int
    lane: Lane
    hop: int
    rollback: int
    start: int
    count: int
    dtype: Dtype
    length: int

    def frame(self, payload: bytes) -> Frame:
        return Frame(
            self.session,
            self.stage,
            self.epoch,
            self.lane,
            self.hop,
            self.rollback,
            self.start,
            self.count,
            payload,
        )

    def ack(self) -> Ack:
        return Ack(self.session, self.stage, self.epoch, self.lane, self.hop, self.start - 1)


def pack_frame(frame: Frame, dtype: Dtype) -> bytes:
    """The header of a frame whose payload (bytes) follows it."""
    return HEADER.pack(
        Kind.FRAME,
        frame.session,
        frame.stage,
        frame.epoch,
        frame.lane,
        frame.hop,
        frame.rollback,
        frame.start,
        frame.count,
        dtype,
        len(frame.payload),
    )


def pack_ack(ack: Ack) -> bytes:
    return HEADER.pack(
        Kind.ACK, ack.session, ack.stage, ack.epoch, ack.lane, ack.received, 0, ack.run + 1, 0, Dtype.IDS, 0
    )


def pack_unknown(header: Header) -> bytes:
    return HEADER.pack(
        Kind.UNKNOWN, header.session, header.stage, header.epoch, header.lane, 0, 0, 0, 0, Dtype.IDS, 0
    )


async def read_header(stream: Stream) -> Header:
    """The next header; ``FrameError`` for one that no session could have sent."""
    values = HEADER.unpack(await stream.read(HEADER.size))
    try:
        kind, lane, dtype = Kind(values[0]), Lane(values[4]), Dtype(values[9])
    except ValueError as error:
        raise FrameError(f"bytes from a peer make no frame: {error}") from error
    header = Header(
        kind,
        values[1],
        values[2],
        values[3],
        lane,
        values[5],
        values[6],
        values[7],
        values[8],
        dtype,
        values[10],
    )
    if header.length > PAYLOAD_LIMIT:
        raise FrameError(f"a frame of {header.length} bytes is larger than any session allows")
    return header


def pack_ids(ids: tuple[int, ...] | list[int]) -> bytes:
    return array("i", ids).tobytes()


def unpack_ids(data: bytes) -> tuple[int, ...]:
    return tuple(array("i", data))


# Control messages


@dataclass(frozen=True, slots=True)
class Open:
    """The client asks a peer to be stage ``stage`` of ``stages``, or to go on so in a new epoch.

    ``previous`` is the only peer whose frames are taken (besides the client's own, at the entry);
    ``following`` is the sealed record of the peer to send to, empty when that is the stage's own peer.
    """

    session: bytes
    epoch: int
    rollback: int
    stage: int
    stages: int
    model_id: str
    revision: str
    span: Span
    wire: WireDtype
    max_length: int
    previous: PeerId
    following: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The stage holds its part, its stream to the next stage is open, and what it has from before."""

    session: bytes
    stage: int
    epoch: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class Refuse:
    """The stage does not take part. ``kind`` is one of ``REFUSALS``."""

    session: bytes
    stage: int
    epoch: int
    kind: str
    why: str


REFUSALS = ("full", "model", "span", "wire", "unreachable", "leaving", "bad")


@dataclass(frozen=True, slots=True)
class Lease:
    """The client is alive: all its sessions at this peer live on for 15 s. Answered by ``Heard``."""

    number: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a ``Lease``, at once: the time between the two is the way there and back."""

    number: int


@dataclass(frozen=True, slots=True)
class Probe:
    """The client waits longer than it should: every stage says at once how far it is."""

    session: bytes
    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """The answer to a ``Probe``: positions accepted, positions run, whether a step is under way."""

    session: bytes
    stage: int
    epoch: int
    number: int
    length: int
    ran: int
    running: bool


@dataclass(frozen=True, slots=True)
class Standby:
    """To a stage: who would replace the next one, as a sealed record; streams to it are kept open."""

    session: bytes
    epoch: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Leaving:
    """To the client: this stage will be gone in so many seconds, and serves until then."""

    session: bytes
    stage: int
    epoch: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Copy:
    """To a stage: send all outputs to that peer too, as its stage before in the epoch ``into``."""

    session: bytes
    epoch: int
    into: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The session's caches may be freed at once."""

    session: bytes


Message = (
    Open
    | Ready
    | Refuse
    | Lease
    | Heard
    | Probe
    | Pulse
    | Standby
    | Leaving
    | Copy
    | Close
    | Frame
    | Ack
    | Turn
    | Resume
    | Drawn
    | Reserve
    | Reserved
    | Grant
    | Truncate
    | Broken
)

Check = Callable[[Any], Any]


def _wrong(what: str, value: object) -> FrameError:
    return FrameError(f"a message from a peer has a bad {what}: {str(value)[:40]!r}")


def _integer(least: int, most: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise _wrong("number", value)
        return value

    return check


def _text(most: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise _wrong("text", value)
        return value

    return check


def _bytes(least: int, most: int) -> Check:
    def check(value: Any) -> bytes:
        if not isinstance(value, bytes) or not least <= len(value) <= most:
            raise _wrong("field of bytes", value)
        return value

    return check


def _one_of(kind: Callable[[Any], Any]) -> Check:
    def check(value: Any) -> Any:
        try:
            return kind(value)
        except (ValueError, TypeError, KeyError) as error:
            raise _wrong("word", value) from error

    return check


def _span(value: Any) -> Span:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong("span", value)
    start, end = (_position(item) for item in value)
    if start >= end:
        raise _wrong("span", value)
    return Span(start, end)


def _ids(value: Any) -> tuple[int, ...]:
    data = _bytes(4, CONTROL_LIMIT)(value)
    if len(data) % 4:
        raise _wrong("list of token ids", value)
    return unpack_ids(data)


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong("number", value)
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong("yes or no", value)
    return value


def _sampling(value: Any) -> Sampling:
    if not isinstance(value, list) or len(value) != len(fields(Sampling)):
        raise _wrong("way of drawing", value)
    temperature, top_k, top_p, repetition, presence, frequency, seed, logprobs = value
    sampling = Sampling(
        _number(temperature),
        _integer(0, 1 << 31)(top_k),
        _number(top_p),
        _number(repetition),
        _number(presence),
        _number(frequency),
        _integer(-(1 << 63), (1 << 63) - 1)(seed),
        _integer(0, ALTERNATIVES)(logprobs),
    )
    if sampling.temperature < 0 or not 0 < sampling.top_p <= 1 or sampling.repetition_penalty <= 0:
        raise _wrong("way of drawing", value)
    return sampling


def _standing(value: Any) -> Standing:
    if not isinstance(value, list) or len(value) != 3:
        raise _wrong("standing", value)
    standing = Standing(_rollback(value[0]), _position(value[1]), _position(value[2]))
    if standing.log_from > standing.length:
        raise _wrong("standing", value)
    return standing


def _stops(value: Any) -> frozenset[int]:
    if not isinstance(value, list) or len(value) > 64:
        raise _wrong("list of stop ids", value)
    return frozenset(_token_id(item) for item in value)


def _token(value: Any) -> Token:
    if not isinstance(value, list) or len(value) != 4 or not isinstance(value[3], list):
        raise _wrong("token", value)
    if len(value[3]) > ALTERNATIVES or any(not isinstance(pair, list) or len(pair) != 2 for pair in value[3]):
        raise _wrong("token", value)
    top = tuple((_token_id(token), _logprob(logprob)) for token, logprob in value[3])
    return Token(_position(value[0]), _token_id(value[1]), _logprob(value[2]), top)


def _tokens(value: Any) -> tuple[Token, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 1024:
        raise _wrong("list of tokens", value)
    tokens = tuple(_token(item) for item in value)
    if any(after.position != before.position + 1 for before, after in pairwise(tokens)):
        raise _wrong("list of tokens", value)
    return tokens


def _logprob(value: Any) -> float:
    if not isinstance(value, int | float) or math.isnan(value):
        raise _wrong("log-probability", value)
    return float(value)


_session = _bytes(16, 16)
_epoch = _integer(0, (1 << 32) - 1)
_rollback = _integer(0, (1 << 64) - 1)
_position = _integer(0, POSITIONS)
_stage = _integer(0, STAGES - 1)
_hop = _integer(-1, (1 << 31) - 1)
_token_id = _integer(0, (1 << 31) - 1)
_lane = _one_of(Lane)
_why = _text(300)

# One row a message: its fields in the order of its declaration.
_CHECKS: dict[int, tuple[type, tuple[Check, ...]]] = {
    1: (
        Open,
        (
            _session,
            _epoch,
            _rollback,
            _stage,
            _integer(1, STAGES),
            _text(200),
            _text(200),
            _span,
            _one_of(WireDtype),
            _integer(1, POSITIONS),
            _text(100),
            _bytes(0, 2048),
        ),
    ),
    2: (Ready, (_session, _stage, _epoch, _standing)),
    3: (Refuse, (_session, _stage, _epoch, _text(20), _why)),
    4: (Lease, (_epoch,)),
    5: (Close, (_session,)),
    6: (
        Frame,
        (_session, _stage, _epoch, _lane, _hop, _rollback, _position, _integer(1, POSITIONS), _ids),
    ),
    7: (Ack, (_session, _stage, _epoch, _lane, _hop, _hop)),
    8: (
        Turn,
        (_session, _epoch, _rollback, _position, _ids, _position, _sampling, _stops),
    ),
    9: (
        Drawn,
        (
            _session,
            _epoch,
            _rollback,
            _tokens,
            lambda value: None if value is None else _one_of(Finish)(value),
        ),
    ),
    10: (Reserve, (_session, _epoch, _position)),
    11: (Reserved, (_session, _stage, _epoch, _position)),
    12: (Grant, (_session, _epoch, _rollback, _position)),
    13: (Truncate, (_session, _epoch, _rollback, _position)),
    14: (Broken, (_session, _stage, _epoch, _one_of(Breach), _why)),
    19: (Standby, (_session, _epoch, _bytes(1, 2048))),
    20: (Leaving, (_session, _stage, _epoch, _integer(0, 86_400))),
    21: (Copy, (_session, _epoch, _epoch, _bytes(1, 2048))),
    16: (Heard, (_epoch,)),
    17: (Probe, (_session, _epoch, _epoch)),
    18: (Pulse, (_session, _stage, _epoch, _epoch, _position, _position, _truth)),
    15: (Resume, (_session, _epoch, _rollback, _position, _position)),
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
