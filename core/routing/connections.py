"""Control streams from this client to donors: one a donor, shared by all its sessions there.

A lease on each stream keeps the sessions alive; when a stream breaks, its sessions are told at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from core.errors import FrameError
from core.routing.lateness import Lateness
from core.swarm.codec import CONTROL, pack, receive
from core.swarm.messages import Heard, Lease, Message
from core.swarm.peer import Peer, Stream, StreamClosed
from core.terms import PeerId

log = logging.getLogger(__name__)

LEASE_SECONDS = 5.0
"""How often the lease of 15 s is renewed."""
IDLE_SECONDS = 120.0
FIRST_ROUND_TRIP = 0.5
"""Assumed until measured."""
SAMPLES = 4
"""The least of so many measurements counts."""
STALE_SECONDS = 4.0
DIAL_SECONDS = 3.0
"""For a connection and a stream: some six round trips, one lost packet among them."""

OnMessage = Callable[[PeerId, Message], None]
OnLost = Callable[[PeerId, str], None]


class Connection:
    """The control stream to one donor. ``send`` drops what a broken stream cannot take: the session
    has been, or is about to be, told."""

    def __init__(self, remote: PeerId, stream: Stream, lateness: Lateness) -> None:
        self.remote, self.stream, self._lateness = remote, stream, lateness
        self.sessions: dict[bytes, tuple[OnMessage, OnLost]] = {}
        self.round_trip = FIRST_ROUND_TRIP
        """Seconds there and back, as measured of late."""
        self.heard_at = 0.0
        """When anything came from it last, by ``time.monotonic``."""
        self._took: deque[float] = deque(maxlen=SAMPLES)
        self._asked: tuple[int, float] | None = None
        """The lease whose answer measures the way, and when it was sent."""
        self._number = 0
        self.idle_since = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._renew())]

    @property
    def is_open(self) -> bool:
        return not self.stream.closed

    @property
    def is_stale(self) -> bool:
        """Whether it has owed an answer for so long that another connection is worth a try: after an outage
        TCP tries again ever more seldom, long after the way is free."""
        asked = self._asked
        return asked is not None and asyncio.get_running_loop().time() - asked[1] > STALE_SECONDS

    @property
    def measured(self) -> bool:
        """Whether the way was measured yet."""
        return bool(self._took)

    def send(self, message: Message) -> None:
        with suppress(StreamClosed):
            self.stream.write(pack(message))

    def ask(self) -> None:
        """Has the donor say at once that it is there, which renews the lease and measures the way."""
        self._number += 1
        if self._asked is None:  # what is asked behind an answer that is late tells nothing more
            self._asked = self._number, asyncio.get_running_loop().time()
        self.send(Lease(self._number))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.stream.close()

    async def _listen(self) -> None:
        why = "its connection broke"
        try:
            while True:
                message = await receive(self.stream)
                self.heard_at = time.monotonic()
                if isinstance(message, Heard):
                    self._heard(message.number)
                    continue
                session = self.sessions.get(getattr(message, "session", b""))
                if session is not None:
                    session[0](self.remote, message)
        except StreamClosed:
            pass
        except FrameError as error:
            why = str(error)
        self.stream.close()
        for _, on_lost in list(self.sessions.values()):
            on_lost(self.remote, why)

    def _heard(self, number: int) -> None:
        if self._asked is None or number != self._asked[0]:
            return
        took = asyncio.get_running_loop().time() - self._asked[1]
        self._asked = None
        self._lateness.answered(self.remote, took - self.round_trip if self.measured else 0.0)
        # Anything may delay an answer, nothing hastens it: one that was frozen is no farther away.
        self._took.append(took)
        self.round_trip = min(self._took)

    async def _renew(self) -> None:
        """Renews the lease while there are sessions, and measures the way on it."""
        while self.is_open:
            if self.sessions or not self._number:
                self.ask()
            await asyncio.sleep(LEASE_SECONDS)


class Connections:
    """All control streams of this client."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._open: dict[PeerId, Connection] = {}
        self._dialling: dict[PeerId, asyncio.Task[Connection]] = {}
        self.lateness = Lateness(time.monotonic)
        """Of all donors' answers."""

    async def to(self, remote: PeerId, addresses: Sequence[str]) -> Connection:
        """The connection to a donor, dialled if there is none. Raises ``Unreachable``."""
        connection = self._open.get(remote)
        if connection is not None and connection.is_open and not connection.is_stale:
            return connection
        task = self._dialling.get(remote)
        if task is None:
            task = asyncio.create_task(self._dial(remote, addresses))
            self._dialling[remote] = task
            task.add_done_callback(lambda done: self._dialled(remote, done))
        return await asyncio.shield(task)

    def _dialled(self, remote: PeerId, task: asyncio.Task[Connection]) -> None:
        self._dialling.pop(remote, None)
        if not task.cancelled():
            task.exception()  # who asked may have gone meanwhile; a failure is nobody's then

    async def _dial(self, remote: PeerId, addresses: Sequence[str]) -> Connection:
        self._sweep()
        before = self._open.get(remote)
        if before is not None and before.is_open:
            log.info("the connection to %s carries nothing any more: making another", remote[-8:])
            await self._peer.drop(remote)
            before.stream.close()
        stream = await self._peer.dial(remote, addresses, CONTROL, DIAL_SECONDS)
        connection = Connection(remote, stream, self.lateness)
        self._open[remote] = connection
        return connection

    @property
    def round_trips(self) -> dict[PeerId, float]:
        """Seconds there and back to every donor that was measured of late."""
        return {remote: line.round_trip for remote, line in self._open.items() if line.measured}

    def heard_at(self, remote: PeerId) -> float:
        """When a donor was last heard, by ``time.monotonic``; 0 for one that is not connected."""
        connection = self._open.get(remote)
        return connection.heard_at if connection is not None else 0.0

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for remote, connection in list(self._open.items()):
            if connection.sessions:
                connection.idle_since = now
            elif not connection.is_open or now - connection.idle_since > IDLE_SECONDS:
                connection.close()
                del self._open[remote]

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()
