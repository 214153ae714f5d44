"""A swarm in memory, with the interface of the real one: for tests and in-process benchmarks.

    swarm = FakeSwarm()
    alice, bob = swarm.peer(), swarm.peer()
    await bob.serve("echo", handler)
    stream = await alice.dial(bob.peer_id, bob.addresses, "echo")

Signatures are real; only the wires are not. ``swarm.link(a, b)`` is the wire from a to b, with a
delay and a rate; ``swarm.cut``, ``stall``, ``strand`` and ``heal`` act on both directions.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from core.errors import SwarmError
from core.swarm.handlers import run_handler
from core.swarm.identity import Identity
from core.swarm.peer import Handler, StreamClosed, Unreachable
from core.swarm.records import BadRecord, announced, bands, open_sealed, seal, withdrawn
from core.terms import Because, ModelRef, PeerId, Record, Span

_HIGH_WATER = 256 * 1024
"""Bytes under way and unread above which ``drain`` waits."""


class FakeSwarm:
    """All peers of one swarm, its wires and its records. ``clock`` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.peers: dict[PeerId, FakePeer] = {}
        self.stored: dict[tuple[PeerId, ModelRef], bytes] = {}
        self._links: dict[tuple[PeerId, PeerId], Link] = {}

    def peer(self, identity: Identity | None = None) -> FakePeer:
        """A new peer, connected to all."""
        peer = FakePeer(self, identity or Identity.make())
        self.peers[peer.peer_id] = peer
        return peer

    def link(self, source: PeerId, target: PeerId) -> Link:
        """The wire in this direction, to read or to change its delay and rate."""
        return self._links.setdefault((source, target), Link())

    def wires(self, one: PeerId, other: PeerId) -> tuple[Link, Link]:
        return self.link(one, other), self.link(other, one)

    def cut(self, one: PeerId, other: PeerId) -> None:
        """Breaks all streams between the two, and dials fail until healed."""
        for link in self.wires(one, other):
            link.cut()

    def stall(self, one: PeerId, other: PeerId) -> None:
        """Nothing arrives any more, and nobody is told, until healed."""
        for link in self.wires(one, other):
            link.flowing.clear()

    def strand(self, one: PeerId, other: PeerId) -> None:
        """What is open between the two carries nothing ever more, and nobody is told; dials work."""
        for link in self.wires(one, other):
            link.strand()

    def heal(self, one: PeerId, other: PeerId) -> None:
        for link in self.wires(one, other):
            link.heal()


class Link:
    """One direction between two peers. ``delay`` is seconds one way, ``rate`` bytes a second
    (0: without limit); both may be changed at any time and hold for what is written from then on."""

    def __init__(self, delay: float = 0.0, rate: float = 0.0) -> None:
        self.delay, self.rate = delay, rate
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.broken = False
        self.carried_bytes = 0
        self._free_at = 0.0
        self._pipes: set[_Pipe] = set()

    def cut(self) -> None:
        self.broken = True
        for pipe in tuple(self._pipes):
            pipe.snap()

    def heal(self) -> None:
        self.broken = False
        self.flowing.set()
        for pipe in tuple(self._pipes):
            pipe.land()

    def strand(self) -> None:
        for pipe in self._pipes:
            pipe.stranded = True

    def arrival(self, size: int, now: float) -> float:
        """When ``size`` bytes written now arrive, all streams of this link sharing its rate."""
        self.carried_bytes += size
        if self.rate:
            self._free_at = max(self._free_at, now) + size / self.rate
            return self._free_at + self.delay
        return now + self.delay

    def attach(self, pipe: _Pipe) -> None:
        self._pipes.add(pipe)

    def detach(self, pipe: _Pipe) -> None:
        self._pipes.discard(pipe)


class _Pipe:
    """One direction of one stream: bytes under way, then bytes to be read."""

    def __init__(self, link: Link) -> None:
        self.ended = self.stranded = False
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._flying: deque[tuple[float, bytes | None]] = deque()
        self._flying_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._arrived = bytearray()
        self._changed: set[asyncio.Future[None]] = set()
        link.attach(self)

    def send(self, data: bytes | None) -> None:
        """Puts bytes under way, or the end (None)."""
        size = len(data) if data else 0
        self._flying.append((self._link.arrival(size, self._loop.time()), data))
        self._flying_bytes += size
        if self._timer is None:
            self.land()

    def land(self) -> None:
        """Moves what has arrived by now to where it is read, and sets the timer for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        while self._flying and self._link.flowing.is_set() and not (self.ended or self.stranded):
            due, data = self._flying[0]
            if due > now:
                self._timer = self._loop.call_at(due, self.land)
                break
            self._flying.popleft()
            if data is None:
                self.snap()
            else:
                self._flying_bytes -= len(data)
                self._arrived += data
        self._wake()

    def snap(self) -> None:
        """Ends now: what is under way is lost, what has arrived can still be read."""
        self.ended = True
        self._flying.clear()
        self._flying_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._link.detach(self)
        self._wake()

    async def read(self, n: int) -> bytes:
        while len(self._arrived) < n:
            if self.ended:
                raise StreamClosed("the stream has ended")
            await self._change()
        data = bytes(self._arrived[:n])
        del self._arrived[:n]
        if len(self._arrived) + self._flying_bytes < _HIGH_WATER:
            self._wake()
        return data

    async def drained(self) -> None:
        while not self.ended and self._flying_bytes + len(self._arrived) > _HIGH_WATER:
            await self._change()

    async def _change(self) -> None:
        waiter = self._loop.create_future()
        self._changed.add(waiter)
        try:
            await waiter
        finally:
            self._changed.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._changed:
            if not waiter.done():
                waiter.set_result(None)


class FakeStream:
    """One end of a stream."""

    def __init__(self, remote: PeerId, outgoing: _Pipe, incoming: _Pipe) -> None:
        self.remote = remote
        self._out, self._in = outgoing, incoming
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed or self._in.ended or self._out.ended

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        if self.closed:
            raise StreamClosed("the stream has ended")
        self._out.send(b"".join(parts))

    async def drain(self) -> None:
        await self._out.drained()
        if self.closed:
            raise StreamClosed("the stream has ended")

    async def read(self, n: int) -> bytes:
        if self._closed:
            raise StreamClosed("the stream was closed here")
        return await self._in.read(n)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._out.send(None)
            self._in.snap()

    def break_off(self) -> None:
        self._closed = True
        self._out.snap()
        self._in.snap()


class FakePeer:
    """A peer in memory; made by ``FakeSwarm.peer``."""

    def __init__(self, swarm: FakeSwarm, identity: Identity) -> None:
        self.swarm, self.identity = swarm, identity
        self.peer_id = identity.peer_id
        self.addresses: tuple[str, ...] = (f"/memory/0/p2p/{identity.peer_id}",)
        self.directory = FakeDirectory(swarm, identity)
        self.reach, self.pid = "public", None
        self.trouble: Because | None = None
        self.watchers: list[Callable[[], None]] = []
        self.handlers: dict[str, Handler] = {}
        self._streams: set[FakeStream] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._died = asyncio.Event()
        self._closed = False

    async def serve(self, protocol: str, handler: Handler) -> None:
        self.handlers[protocol] = handler

    async def dial(
        self, peer_id: PeerId, addresses: Sequence[str], protocol: str, timeout: float = 5.0
    ) -> FakeStream:
        out, back = self.swarm.wires(self.peer_id, peer_id)
        try:
            async with asyncio.timeout(timeout):
                await out.flowing.wait()
                await back.flowing.wait()
                await asyncio.sleep(out.delay + back.delay)
        except TimeoutError:
            raise Unreachable(peer_id, f"no answer within {timeout:g} s") from None
        if not self.alive:
            raise Unreachable(peer_id, "this peer has left the swarm")
        target = self.swarm.peers.get(peer_id)
        if target is None or not target.alive or out.broken or back.broken:
            raise Unreachable(peer_id, "nobody answers at its addresses")
        handler = target.handlers.get(protocol)
        if handler is None:
            raise Unreachable(peer_id, f"it does not serve {protocol}")
        there, here = _Pipe(out), _Pipe(back)
        target.accept(protocol, handler, FakeStream(self.peer_id, here, there))
        return self._keep(FakeStream(peer_id, there, here))

    @property
    def alive(self) -> bool:
        return not self._closed and not self._died.is_set()

    async def drop(self, peer_id: PeerId) -> None:
        for stream in tuple(self._streams):
            if stream.remote == peer_id:
                stream.break_off()

    async def died(self) -> None:
        await self._died.wait()

    def kill(self) -> None:
        """As ``kill -9`` of its network: streams break, nothing is withdrawn, ``died`` returns."""
        self._died.set()
        for stream in self._streams:
            stream.break_off()
        self._streams.clear()
        self.swarm.peers.pop(self.peer_id, None)

    async def close(self) -> None:
        self._closed = True
        self.swarm.peers.pop(self.peer_id, None)
        for stream in self._streams:
            stream.close()
        self._streams.clear()
        for task in self._tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def accept(self, protocol: str, handler: Handler, stream: FakeStream) -> None:
        self._keep(stream)
        task = asyncio.create_task(run_handler(protocol, handler, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _keep(self, stream: FakeStream) -> FakeStream:
        self._streams = {kept for kept in self._streams if not kept.closed}
        self._streams.add(stream)
        return stream


class FakeDirectory:
    """The records of a ``FakeSwarm``, as the peer of ``identity`` signs and reads them."""

    def __init__(self, swarm: FakeSwarm, identity: Identity) -> None:
        self._swarm, self._identity = swarm, identity

    async def announce(self, record: Record, signer: Identity | None = None) -> Record:
        now = self._swarm.clock()
        return self._store(announced(record, now, self._last_expiry(record, now)), signer)

    async def withdraw(self, record: Record, signer: Identity | None = None) -> Record:
        return self._store(withdrawn(record, self._swarm.clock()), signer)

    async def read(self, model: ModelRef, layers: Span | None = None) -> tuple[Record, ...]:
        wanted = bands(layers or Span(0, model.layers))
        return tuple(
            record
            for record in self._records()
            if record.model == model and set(wanted) & set(bands(record.span))
        )

    async def models(self) -> tuple[ModelRef, ...]:
        return tuple(dict.fromkeys(record.model for record in self._records()))

    def sealed(self, record: Record) -> bytes:
        data = self._swarm.stored.get((record.peer_id, record.model))
        if data is None:
            raise SwarmError("this record was neither announced nor read here")
        return data

    def _store(self, record: Record, signer: Identity | None = None) -> Record:
        self._swarm.stored[record.peer_id, record.model] = seal(record, signer or self._identity)
        return record

    def _records(self) -> list[Record]:
        now, found = self._swarm.clock(), []
        for data in self._swarm.stored.values():
            with suppress(BadRecord):  # one bad entry hides nothing else
                found.append(open_sealed(data, now))
        return found

    def _last_expiry(self, record: Record, now: float) -> float:
        data = self._swarm.stored.get((record.peer_id, record.model))
        try:
            return open_sealed(data, now).expires_at if data else 0.0
        except BadRecord:
            return 0.0
