"""A donor's round trips to the donors that matter to it, measured cheaply and all the time.

Those of neighbouring layers come first, since they are its likeliest neighbours in a ring, then a few
at random, who keep the map of delays in one piece. A control stream to each stays open; a ``Lease`` goes
out every 10 s or so, and the time until it is ``Heard`` is the way there and back. Each measurement
moves this donor's coordinate (``core.swarm.coordinates``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Collection, Sequence

from core.errors import SwarmError
from core.swarm.codec import CONTROL, pack, receive
from core.swarm.coordinates import Coordinate, moved, read
from core.swarm.messages import Heard, Lease
from core.swarm.peer import Peer, Stream
from core.swarm.records import MAX_NEAR
from core.swarm.watch import pause_after, spread
from core.terms import NEAR_NAME, DonorState, ModelRef, PeerId, Record, Span

log = logging.getLogger(__name__)

PING_SECONDS = 10.0
QUICK_PINGS = 4
"""The first so many to a peer follow each other"""
QUICK_SECONDS = 0.5
"""at this distance, so that a new donor soon knows where it lies."""
READ_SECONDS, SELDOM = 60.0, 4.0
"""How often the records are read again, at first more often; and how many times as seldom as by who shows
them, where there are many."""
FIRST_READ_SECONDS = 2.0
ANSWER_SECONDS = 5.0
NEIGHBOURS = MAX_NEAR
STRANGERS = 3
LOST = 0.5
"""A donor surer than this of where it lies learns nothing from one that says nothing of itself."""
SAMPLES = 4
"""The least of so many measurements counts: anything may delay an answer, nothing hastens it (Ledlie,
Gardner and Seltzer, "Network Coordinates in the Wild", NSDI 2007, section 4.1)."""


def worth_measuring(
    others: Collection[Record], span: Span, layers: int, kept: Collection[PeerId], chance: random.Random
) -> list[Record]:
    """Whom a donor of ``span`` should measure: those that may come next or before in a ring of ``layers``
    layers, then a few of the rest, at most ``NEIGHBOURS`` and ``STRANGERS``; ``kept`` before new ones."""
    after, before = span.end % layers, (span.start - 1) % layers
    others = chance.sample(list(others), len(others))
    others.sort(key=lambda record: record.peer_id not in kept)
    near = [r for r in others if after in r.span or before in r.span]
    rest = [r for r in others if r not in near]
    return near[:NEIGHBOURS] + (rest + near[NEIGHBOURS:])[:STRANGERS]


class Pinger:
    """Measures from ``start`` to ``close``; all methods belong to one event loop. ``pace`` shortens all
    its times, for tests."""

    def __init__(self, peer: Peer, model: ModelRef, span: Span, *, pace: float = 1.0) -> None:
        self.coordinate = Coordinate()
        self._peer, self._model, self.span, self._pace = peer, model, span, pace
        self._chance = random.Random()
        self._samples: dict[PeerId, deque[float]] = {}
        self._records: dict[PeerId, Record] = {}
        self._tasks: dict[PeerId, asyncio.Task[None]] = {}
        self._reading: asyncio.Task[None] | None = None

    @property
    def knows(self) -> bool:
        """Whether anything was measured yet."""
        return bool(self._samples)

    def round_trip(self, peer: PeerId) -> float | None:
        """Seconds there and back, as measured of late; ``None`` for a peer that is not measured."""
        samples = self._samples.get(peer)
        return min(samples) if samples else None

    @property
    def near(self) -> tuple[tuple[str, float], ...]:
        """Round trips as a record carries them, donors of neighbouring layers first."""
        found = [(peer[-NEAR_NAME:], min(samples)) for peer, samples in self._samples.items()]
        return tuple(found[:MAX_NEAR])

    def start(self) -> None:
        self._reading = asyncio.create_task(self._keep(), name="measure delays")

    async def close(self) -> None:
        tasks = [*self._tasks.values(), *([self._reading] if self._reading else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._tasks.clear()

    async def _keep(self) -> None:
        """Reads who is there now and then, more often while this donor is new."""
        pause = FIRST_READ_SECONDS
        while True:
            records: Sequence[Record] = ()
            try:
                records = await self._peer.directory.read(self._model)
                self._measure(records)
            except SwarmError as error:
                log.debug("reading whom to measure: %s", error)
            await asyncio.sleep(spread(pause_after(records, pause, SELDOM) * self._pace))
            pause = min(2 * pause, READ_SECONDS)

    def _measure(self, records: Sequence[Record]) -> None:
        """Begins with who is worth it and new, ends with who is no longer."""
        me = self._peer.peer_id
        online = [r for r in records if r.peer_id != me and r.state is DonorState.ONLINE]
        chosen = worth_measuring(online, self.span, self._model.layers, self._samples, self._chance)
        self._records = {record.peer_id: record for record in online}
        wanted = {record.peer_id: record for record in chosen}
        for peer, task in list(self._tasks.items()):
            if peer not in wanted or task.done():
                task.cancel()
                del self._tasks[peer]
        for peer, record in wanted.items():
            if peer not in self._tasks:
                self._tasks[peer] = asyncio.create_task(self._ping(record), name="ping")
        self._samples = {peer: self._samples[peer] for peer in wanted if peer in self._samples}

    async def _ping(self, record: Record) -> None:
        """Measures the way to one donor until its stream ends; the next reading may begin anew."""
        stream: Stream | None = None
        try:
            stream = await self._peer.dial(record.peer_id, record.addresses, CONTROL)
            number = 0
            while True:
                number += 1
                async with asyncio.timeout(ANSWER_SECONDS):
                    took = await _asked(stream, number)
                self._measured(record.peer_id, took)
                pause = QUICK_SECONDS if number < QUICK_PINGS else PING_SECONDS
                await asyncio.sleep(spread(pause * self._pace))
        except (SwarmError, TimeoutError) as error:
            log.debug("the way to %s cannot be measured: %r", record.peer_id[-8:], error)
            self._samples.pop(record.peer_id, None)
        finally:
            if stream is not None:
                stream.close()

    def _measured(self, peer: PeerId, took: float) -> None:
        samples = self._samples.setdefault(peer, deque(maxlen=SAMPLES))
        samples.append(took)
        record = self._records.get(peer)
        theirs = read(record.coordinate, record.coordinate_error) if record is not None else None
        if theirs is None and self.coordinate.error < LOST:
            return
        self.coordinate = moved(self.coordinate, theirs or Coordinate(), min(samples), self._chance)


async def _asked(stream: Stream, number: int) -> float:
    """Seconds until a lease was heard. A donor that says anything else is not measured."""
    clock = asyncio.get_running_loop().time
    sent = clock()
    stream.write(pack(Lease(number)))
    message = await receive(stream)
    if message != Heard(number):
        raise SwarmError("it answered something else")
    return clock() - sent
