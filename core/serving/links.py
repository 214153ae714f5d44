"""Long-lived streams from this donor to the donors that come next: one a peer and lane, shared by all
sessions, opened before a session begins, so that a step needs neither a connection nor a negotiation.

A stream that breaks is dialled again once, after a moment: whose network process has ended is back soon, and
libp2p lets nobody dial again for seconds who was refused. What was not acknowledged is then sent again by
the sessions. A stream that still owes a word is asked for one before a session is told that it is open: after
an outage TCP tries again ever more seldom, and what is sent meanwhile arrives nowhere.

Bulk goes out in pieces, so that a prompt on its way leaves gaps for an answer's steps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from core.errors import FrameError, SwarmError
from core.ring.frames import Ack, Frame, Lane
from core.serving.metering import Metering, on_this_pc
from core.serving.upload import Upload, Way
from core.swarm.frames import LANES, Dtype, Header, Kind, pack_frame, pack_word, read_header
from core.swarm.peer import Peer, Silent, Stream, StreamClosed, Unreachable
from core.terms import PeerId

log = logging.getLogger(__name__)

PIECE = 64 << 10
IDLE_SECONDS = 120.0
HELD_UP_SECONDS = 0.002
REDIAL_SECONDS = 0.5
OWED_SECONDS = 0.5
"""After so long without a word on what was sent, a link is asked for one;"""
WORD_SECONDS = 0.5
"""which takes two round trips and so long at most."""
STALE_SECONDS = 4.0
"""A connection that has owed a word for so long is given up for a new one."""


@dataclass
class LinkEvents:
    """What a link tells its owner: an acknowledgement, a session that the peer does not know, a
    stream dialled again, a peer that is gone."""

    acknowledged: Callable[[PeerId, Ack], None]
    unknown: Callable[[PeerId, Header], None]
    redialled: Callable[[PeerId, Lane], None]
    unreachable: Callable[[PeerId, Lane, str], None]


@dataclass(eq=False)
class Link:
    """One lane to one peer."""

    peer: Peer
    remote: PeerId
    addresses: tuple[str, ...]
    lane: Lane
    events: LinkEvents
    upload: Upload
    metering: Metering
    stream: Stream | None = None
    users: int = 0
    used_at: float = 0.0
    _outgoing: asyncio.Queue[tuple[bytes, bytes, bool]] = field(default_factory=asyncio.Queue)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _opening: asyncio.Task[None] | None = None
    _owed_since: float | None = None
    """When what was sent first has brought no word of any kind back yet."""
    _word: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """Returns when the stream is there; raises ``SwarmError`` when it cannot be had."""
        if self.stream is not None and not self.stream.closed and not self._is_overdue:
            return
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._make_sure())
        await asyncio.shield(self._opening)
        if self.stream is None:
            raise Unreachable(self.remote, "its stream broke and could not be dialled again")

    def send(self, frame: Frame, dtype: Dtype, *, own: bool = False) -> None:
        """Queues a frame. While the stream is down nothing is sent: the sessions send again. ``own``: of the
        owner's own chat, which no cap holds up."""
        if self.stream is None:
            return
        header = pack_frame(frame, dtype)
        if self._owed_since is None:
            self._owed_since = time.monotonic()
        if self.lane is Lane.BULK:
            self._outgoing.put_nowait((header, frame.payload, own))
            way = Way(self.remote, frame.session, frame.stage, frame.epoch)
            self.upload.sent(way, frame.hop, len(frame.payload), time.monotonic())
            return
        if not on_this_pc(self.addresses):
            self.metering.sends_step(len(header) + len(frame.payload))
        with suppress(StreamClosed):
            self.stream.write(header, frame.payload)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    @property
    def _is_overdue(self) -> bool:
        since = self._owed_since
        return since is not None and time.monotonic() - since > OWED_SECONDS

    async def _make_sure(self) -> None:
        """Dials where there is no stream; where there is one, sees whether it carries anything."""
        if self.stream is None or self.stream.closed:
            await self._dial()
            return
        self._word.clear()
        with suppress(StreamClosed):
            self.stream.write(pack_word(Kind.PING, self.lane))
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * (self.upload.round_trip(self.remote) or 0.0) + WORD_SECONDS):
                await self._word.wait()
                return
        self.upload.stuck(self.remote, time.monotonic())
        since = self._owed_since
        if since is None or time.monotonic() - since < STALE_SECONDS:
            raise Silent(self.remote)
        log.info("the connection to %s carries nothing any more: making another", self.remote[-8:])
        stream, self.stream = self.stream, None
        await self.peer.drop(self.remote)
        stream.close()
        await self._dial()
        self.events.redialled(self.remote, self.lane)

    async def _dial(self) -> None:
        stream = await self.peer.dial(self.remote, self.addresses, LANES[self.lane])
        for task in self._tasks:
            task.cancel()
        self.stream = stream
        self._owed_since = None
        self._tasks = [asyncio.create_task(self._listen(stream))]
        if self.lane is Lane.BULK:
            self._outgoing = asyncio.Queue()
            self._tasks.append(asyncio.create_task(self._write_bulk(stream, self._outgoing)))

    async def _listen(self, stream: Stream) -> None:
        why = "the stream broke"
        try:
            while True:
                header = await read_header(stream)
                self._owed_since = None
                self._word.set()
                if header.kind is Kind.PONG:
                    continue
                if header.kind is Kind.ACK:
                    self._acknowledged(header.ack())
                elif header.kind is Kind.UNKNOWN:
                    self.upload.lost(self.remote)
                    self.events.unknown(self.remote, header)
                else:
                    raise FrameError("it sent a frame where only acknowledgements belong")
        except FrameError as error:
            why = str(error)
            stream.close()
        except StreamClosed:
            pass
        self.upload.lost(self.remote)
        if self.stream is stream:
            self.stream = None
            self._opening = asyncio.create_task(self._redial(why))

    def _acknowledged(self, ack: Ack) -> None:
        if ack.lane is Lane.BULK:
            way = Way(self.remote, ack.session, ack.stage, ack.epoch)
            self.upload.received(way, ack.received, time.monotonic())
        self.events.acknowledged(self.remote, ack)

    async def _redial(self, why: str) -> None:
        if not self.users:
            return
        await asyncio.sleep(REDIAL_SECONDS)
        try:
            await self._dial()
        except SwarmError as error:
            self.events.unreachable(self.remote, self.lane, f"{why}; {error}")
        else:
            self.events.redialled(self.remote, self.lane)

    async def _write_bulk(self, stream: Stream, outgoing: asyncio.Queue[tuple[bytes, bytes, bool]]) -> None:
        with suppress(StreamClosed):  # the listener sees the same end and dials again
            while True:
                header, payload, own = await outgoing.get()
                stream.write(header)
                view, start = memoryview(payload), 0
                while start < len(view):
                    piece = view[start : start + self._piece]
                    stream.write(piece)
                    await stream.drain()
                    await self._wait(len(piece), own=own)
                    start += len(piece)

    @property
    def _piece(self) -> int:
        return PIECE if on_this_pc(self.addresses) else min(PIECE, self.metering.piece)

    async def _wait(self, count: int, *, own: bool) -> None:
        """Until the owner's cap lets more go. What was held up tells nothing of how fast this PC sends."""
        if on_this_pc(self.addresses):
            return
        if own:
            self.metering.sends_step(count)
            return
        began = time.monotonic()
        await self.metering.sends_bulk(count)
        if time.monotonic() - began > HELD_UP_SECONDS:
            self.upload.held_up()


class Links:
    """All links of a donor."""

    def __init__(self, peer: Peer, events: LinkEvents) -> None:
        self.upload = Upload()
        self.metering = Metering(lambda: self.upload.cap_base(time.monotonic()), self.upload.carried)
        self._peer, self._events = peer, events
        self._links: dict[tuple[PeerId, Lane], Link] = {}

    async def open(self, remote: PeerId, addresses: Sequence[str], lane: Lane) -> Link:
        """The link to a peer, ready. Raises ``SwarmError`` when the peer cannot be dialled."""
        link = self._links.get((remote, lane))
        if link is None:
            link = Link(self._peer, remote, tuple(addresses), lane, self._events, self.upload, self.metering)
            self._links[remote, lane] = link
        link.addresses = tuple(addresses)
        link.users += 1
        try:
            await link.open()
        except BaseException:
            link.users -= 1
            raise
        return link

    def release(self, link: Link, now: float) -> None:
        """One session needs the link no more; it stays warm for a while."""
        link.users -= 1
        link.used_at = now

    def sweep(self, now: float) -> None:
        """Closes links that nobody has used for a while."""
        for key, link in list(self._links.items()):
            if not link.users and now - link.used_at > IDLE_SECONDS:
                link.close()
                del self._links[key]

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
