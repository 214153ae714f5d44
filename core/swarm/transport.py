"""A stream over a unix socket to libp2p's daemon, with as little as possible in between.

asyncio's own stream classes wait at every write and wake a second task at every read; this one is
the protocol that the event loop calls, with one future for the reader and one for a full buffer.
"""

from __future__ import annotations

import asyncio
from typing import cast

from core.swarm.peer import StreamClosed
from core.terms import PeerId

_READ_AHEAD = 1024 * 1024
"""Bytes kept unread before the sender is slowed down."""
_HIGH_WATER = 256 * 1024
"""Bytes queued above which ``drain`` waits."""


class SocketStream(asyncio.Protocol):
    """One stream; it ends in both directions when either side closes it."""

    def __init__(self) -> None:
        self.remote = PeerId("")  # known once the daemon has said who it is
        self.remote_address = ""
        """Where an incoming stream comes from, as this side sees it."""
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._arrived = bytearray()
        self._wanted = 0
        self._reader: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._drainers: set[asyncio.Future[None]] = set()
        self._writing_paused = False

    # What users of a stream call.

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        if self.closed or self._transport is None:
            raise StreamClosed("the stream has ended")
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)

    async def drain(self) -> None:
        while self._writing_paused and not self.closed:
            waiter = asyncio.get_running_loop().create_future()
            self._drainers.add(waiter)
            try:
                await waiter
            finally:
                self._drainers.discard(waiter)
        if self.closed:
            raise StreamClosed("the stream has ended")

    async def read(self, n: int) -> bytes:
        if len(self._arrived) < n:
            await self._until(n)
        data = bytes(self._arrived[:n])
        del self._arrived[:n]
        if self._reading_paused and len(self._arrived) < _READ_AHEAD // 2:
            self._resume_reading()
        return data

    def close(self) -> None:
        if not self.closed:
            self._end()
            self._arrived.clear()
        if self._transport is not None:
            self._transport.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        have = len(self._arrived)
        if have >= self._wanted and self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        if have > max(_READ_AHEAD, self._wanted) and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._end()
        return False  # the transport sends what is queued and closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._transport = None

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake_drainers()

    async def _until(self, n: int) -> None:
        if self._reader is not None:
            raise RuntimeError("a stream has one reader at a time")
        if self._reading_paused:
            self._resume_reading()
        self._wanted = n
        try:
            while len(self._arrived) < n:
                if self.closed:
                    raise StreamClosed("the stream has ended")
                self._reader = asyncio.get_running_loop().create_future()
                await self._reader
        finally:
            self._reader, self._wanted = None, 0

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _end(self) -> None:
        self.closed = True
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        self._wake_drainers()

    def _wake_drainers(self) -> None:
        for waiter in self._drainers:
            if not waiter.done():
                waiter.set_result(None)
