"""Keeping records fresh: one's own, and those of a model that one reads.

Both work over any ``Directory``. Their loops are spread by a fifth, so that peers which started
together do not call together.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sized

from core.errors import SwarmError
from core.swarm.identity import Identity
from core.swarm.peer import Directory
from core.terms import DonorState, ModelRef, Record, Span

log = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0
REST_SECONDS = 300.0
RECORD_SECONDS = 0.5
"""What nobody waits for is read again no sooner than so long for each record that there was: so what reading
costs does not grow with the swarm, only how old the news is."""
_RETRY_SECONDS = 5.0
_CLOSEST_READS = 0.2
"""Seconds between the starts of two reads, however often they are asked for."""


class Announcer:
    """Keeps a donor's record in the directory until it is withdrawn: this peer's, or that of ``signer``."""

    def __init__(
        self, directory: Directory, every: float = REFRESH_SECONDS, signer: Identity | None = None
    ) -> None:
        self._directory, self._every, self._signer = directory, every, signer
        self._record: Record | None = None
        self._stored: Record | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def stored(self) -> Record | None:
        """The record as it lies in the directory, once it does."""
        return self._stored

    def update(self, record: Record) -> None:
        """Announces this from now on, at once and then every 30 s; failures are tried again."""
        self._record = record
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="announce")

    async def withdraw(self) -> None:
        """Stops announcing and says *leaving*. Raises ``SwarmError`` if nobody took that."""
        stored = await self.end()
        if stored is not None:
            await self._directory.withdraw(stored, self._signer)

    async def end(self) -> Record | None:
        """Stops announcing, and leaves what lies in the directory as it is; returns that."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        stored, self._stored, self._record = self._stored, None, None
        return stored

    async def _keep(self) -> None:
        failing = False
        while self._record is not None:
            self._changed.clear()
            try:
                self._stored = await self._directory.announce(self._record, self._signer)
                failing, pause = False, self._every
            except SwarmError as error:
                log.log(logging.DEBUG if failing else logging.WARNING, "announcing: %s", error)
                failing, pause = True, min(_RETRY_SECONDS, self._every)
            await _wait(self._changed, spread(pause))


async def withdraw_for(directory: Directory, identity: Identity, model: ModelRef, died_at: float) -> bool:
    """Says *leaving* for a peer of this PC that was killed before it could (at Unix time ``died_at``), with
    its own key; says whether there was a record to withdraw. One of a later life stays. Raises
    ``SwarmError``."""
    left = False
    for record in await directory.read(model):
        mine = record.peer_id == identity.peer_id and record.started_at <= died_at
        if mine and record.state is not DonorState.LEAVING:
            await directory.withdraw(record, identity)
            left = True
    return left


class Watcher:
    """The records of one model, kept so fresh that a plan needs no wait.

    The bands of ``layers`` (all, unless said) are read every 30 s, the rest every 5 min; outside of
    those bands a donor may therefore be missing that has come, or whose record has run out. Above 60 donors
    it takes longer (``RECORD_SECONDS``), and above 120 records run out in between: then who needs some reads.
    """

    def __init__(
        self,
        directory: Directory,
        model: ModelRef,
        layers: Span | None = None,
        *,
        every: float = REFRESH_SECONDS,
        rest_every: float = REST_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.model, self.layers = model, layers
        self._directory, self._clock = directory, clock
        self._every, self._rest_every = every, rest_every
        self._known: dict[str, Record] = {}
        self._read_all_at = float("-inf")
        self.last: tuple[Record, ...] = ()
        """What was there when all was read last."""
        self._reading = asyncio.Lock()
        self._task = asyncio.create_task(self._keep(), name="watch records")

    @property
    def records(self) -> tuple[Record, ...]:
        """What is known now and has not expired, *leaving* ones included."""
        now = self._clock()
        return tuple(record for record in self._known.values() if record.expires_at > now)

    async def refresh(self) -> tuple[Record, ...]:
        """Reads all again: what was in the directory when this was called is known when it returns.
        Raises ``SwarmError``."""
        asked = time.monotonic()
        async with self._reading:
            # Who waited here while another read was begun takes that one's result.
            if self._read_all_at < asked:
                await asyncio.sleep(self._read_all_at + _CLOSEST_READS - time.monotonic())
                await self._read(None)
        return self.records

    async def glance(self, age: float) -> tuple[Record, ...]:
        """What was there ``age`` seconds ago or later; where that is much, when it was read last. Raises
        ``SwarmError``."""
        if time.monotonic() - self._read_all_at >= pause_after(self.last, age):
            await self.refresh()
        return self.last

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _keep(self) -> None:
        failing = False
        while True:
            if self.layers is None:
                # Others may have read meanwhile.
                pause = self._read_all_at + pause_after(self.last, self._every) - time.monotonic()
                if pause > 0:
                    await asyncio.sleep(spread(pause))
                    continue
            whole = self.layers is None or time.monotonic() - self._read_all_at >= self._rest_every
            try:
                async with self._reading:
                    await self._read(None if whole else self.layers)
                failing, pause = False, pause_after(self.last, self._every)
            except SwarmError as error:
                log.log(logging.DEBUG if failing else logging.WARNING, "reading records: %s", error)
                failing, pause = True, min(_RETRY_SECONDS, self._every)
            await asyncio.sleep(spread(pause))

    async def _read(self, layers: Span | None) -> None:
        started = time.monotonic()
        records = await self._directory.read(self.model, layers)
        if layers is None:
            self._read_all_at = started
        now = self._clock()
        for record in records:
            known = self._known.get(record.peer_id)
            if known is None or record.expires_at >= known.expires_at:
                self._known[record.peer_id] = record
        self._known = {peer: record for peer, record in self._known.items() if record.expires_at > now}
        if layers is None:
            self.last = tuple(self._known.values())


def pause_after(records: Sized, least: float, seldom: float = 1.0) -> float:
    """Seconds until so many records are read again without need, or so many times as seldom."""
    return max(least, seldom * RECORD_SECONDS * len(records))


def spread(seconds: float) -> float:
    """The time, up to a fifth shorter or longer."""
    return seconds * random.uniform(0.8, 1.2)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
