"""What travels between stages, as bytes: a fixed header of ``HEADER.size`` bytes and raw tensor bytes;
acknowledgements come back on the same stream.

Lengths, dtypes and positions are known from the header, so a receiver compares them with the session
before it reads, allocates or runs anything.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from enum import IntEnum

from core.errors import FrameError
from core.ring.frames import Ack, Frame, Lane
from core.swarm.peer import Stream
from core.terms import WireDtype

DECODE = "/idlebloom/1/decode"
BULK = "/idlebloom/1/bulk"
LANES = {Lane.DECODE: DECODE, Lane.BULK: BULK}
PAYLOAD_LIMIT = 64 << 20
HEADER = struct.Struct(">B16sBIBiQIIBI")


BLOCK = 64
SCALE_BYTES = 2


class Kind(IntEnum):
    FRAME = 1
    ACK = 2
    UNKNOWN = 3
    """The receiver knows no such session: its sender's part has nowhere to go."""
    PING = 4
    """Asks for a word on a stream that should have carried one."""
    PONG = 5


class Dtype(IntEnum):
    """What a frame's payload holds; ``size`` is bytes an element."""

    IDS = 1
    FLOAT32 = 2
    BFLOAT16 = 3
    INT8 = 4
    """Blocks of ``BLOCK`` whole numbers with a scale of two bytes each: prompts on slow links."""

    def row_bytes(self, width: int) -> int:
        """Of one position of ``width`` numbers."""
        if self is Dtype.INT8:
            return width + SCALE_BYTES * -(-width // BLOCK)
        return width * (2 if self is Dtype.BFLOAT16 else 4)


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


def pack_word(kind: Kind, lane: Lane) -> bytes:
    """A ping or a pong."""
    return HEADER.pack(kind, bytes(16), 0, 0, lane, 0, 0, 0, 0, Dtype.IDS, 0)


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
