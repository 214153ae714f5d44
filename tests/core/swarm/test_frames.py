"""Frames between stages survive the wire, and what no stage would send is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import FrameError
from core.ring.frames import (
    Ack,
    Frame,
    Lane,
)
from core.swarm.frames import HEADER, Dtype, Kind, pack_ack, pack_frame, pack_ids, read_header, unpack_ids
from tests.core.swarm.fixed_bytes import Bytes

SESSION = bytes(range(16))


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1))
@settings(max_examples=50)
def test_token_ids_travel_as_four_bytes_each(ids: list[int]) -> None:
    """In their order."""
    assert len(pack_ids(ids)) == 4 * len(ids)
    assert unpack_ids(pack_ids(ids)) == tuple(ids)


async def test_headers_of_frames_and_acknowledgements_survive() -> None:
    """The fixed part tells everything that is checked before a payload is read."""
    frame = Frame(SESSION, 3, 9, Lane.DECODE, 12, 5 << 32, 100, 2, b"12345678")
    header = await read_header(Bytes(pack_frame(frame, Dtype.BFLOAT16)))  # type: ignore[arg-type]
    assert (header.kind, header.dtype, header.length) == (Kind.FRAME, Dtype.BFLOAT16, 8)
    assert header.frame(b"12345678") == frame
    for ack in (Ack(SESSION, 3, 9, Lane.BULK, 4, -1), Ack(SESSION, 0, 9, Lane.DECODE, -1, -1)):
        header = await read_header(Bytes(pack_ack(ack)))  # type: ignore[arg-type]
        assert header.kind is Kind.ACK
        assert header.ack() == ack


@pytest.mark.parametrize(("place", "byte"), [(0, 9), (22, 7), (43, 0)], ids=["kind", "lane", "dtype"])
async def test_a_header_with_an_unknown_word_is_refused(place: int, byte: int) -> None:
    """Kind, lane and dtype are words of a short list."""
    data = bytearray(pack_frame(Frame(SESSION, 3, 9, Lane.DECODE, 1, 0, 0, 1, b"1234"), Dtype.IDS))
    data[place] = byte
    with pytest.raises(FrameError):
        await read_header(Bytes(bytes(data)))  # type: ignore[arg-type]


async def test_lengths_are_bounded_before_anything_is_read() -> None:
    """No frame can ask for gigabytes."""
    huge = bytearray(pack_frame(Frame(SESSION, 3, 9, Lane.BULK, 1, 0, 0, 1, b""), Dtype.IDS))
    huge[HEADER.size - 4 :] = (1 << 31).to_bytes(4, "big")
    with pytest.raises(FrameError, match="larger"):
        await read_header(Bytes(bytes(huge)))  # type: ignore[arg-type]
