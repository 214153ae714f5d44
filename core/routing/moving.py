"""Moving off a donor that leaves as planned: its replacement is filled while it still serves.

The stage before it copies its log and all it sends to the replacement, in an epoch that only those two
and the client know; the client does so itself for a new entry. When the replacement has nearly caught
up, all stages of the new route are asked to open it ahead: the ring goes on until all have said that they
could, and then changes over without waiting for anyone, just after a token. Little is left to replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import Refused, StageLost
from core.ring.client import Client
from core.ring.frames import Ack, Broken, Standing
from core.routing.connections import Connection
from core.routing.opening import Way
from core.swarm.messages import Copy, Message, Open, Probe, Pulse, Ready, Refuse
from core.terms import PeerId

READY_SECONDS = 3.0
LOOK_SECONDS = 0.05
NEARLY = 8
"""Positions that the replacement may still lack when the route changes."""


@dataclass(frozen=True)
class Prepared:
    """A way that all its stages have opened ahead, under ``epoch``; what they held when they did, and those
    of them that serve already."""

    way: Way
    epoch: int
    stages: tuple[Connection, ...]
    standings: dict[int, Standing]
    staying: frozenset[int]


class Asking:
    """All stages of ``way`` asked to open it ahead; ``opens`` are the messages, one a stage."""

    def __init__(self, way: Way, stages: Sequence[Connection], opens: Sequence[Open]) -> None:
        self.epoch = opens[0].epoch
        self._way, self._stages, self._opens = way, tuple(stages), opens
        self._standings: dict[int, Standing] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, staying: frozenset[int]) -> Prepared:
        """Returns when all could. Raises ``SwarmError``."""
        for connection, message in zip(self._stages, self._opens, strict=True):
            connection.send(message)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready
        except TimeoutError:
            raise StageLost(self._stages[0].remote, "not all stages answered") from None
        return Prepared(self._way, self.epoch, self._stages, self._standings, staying)

    def hear(self, remote: PeerId, message: Ready | Refuse) -> None:
        """What a stage answers."""
        if self._ready.done() or not 0 <= message.stage < len(self._stages):
            return
        if self._stages[message.stage].remote != remote:
            return
        if isinstance(message, Refuse):
            self._ready.set_exception(Refused(remote, message.kind, message.why))
            return
        self._standings[message.stage] = message.standing
        if len(self._standings) == len(self._stages):
            self._ready.set_result(None)


class Filling:
    """One replacement. ``opening`` is how it is asked, ``before`` the connection to the stage before
    it (``None`` for an entry), ``sealed`` its record."""

    def __init__(
        self, client: Client, connection: Connection, before: Connection | None, opening: Open, sealed: bytes
    ) -> None:
        self.epoch = opening.epoch
        self._client, self._connection, self._before = client, connection, before
        self._opening, self._sealed = opening, sealed
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ran = 0
        self._ended: str | None = None
        """Why it can be filled no further."""

    @property
    def peer(self) -> PeerId:
        return self._connection.remote

    async def run(self, serving_epoch: int) -> None:
        """Returns when the replacement has nearly caught up. Raises ``SwarmError``."""
        self._connection.send(self._opening)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready
        except TimeoutError:
            raise StageLost(self.peer, "it did not answer") from None
        self._connection.send(self._client.fill_terms(self._opening.stage, self.epoch))
        if self._before is None:
            for frame in self._client.fill_entry():
                self._connection.send(frame)
        else:
            self._before.send(Copy(self._opening.session, serving_epoch, self.epoch, self._sealed))
        number = 0
        while self._ended is None and self._ran < len(self._client.ids) - NEARLY:
            number += 1
            self._connection.send(Probe(self._opening.session, self.epoch, number))
            await asyncio.sleep(LOOK_SECONDS)
        if self._ended is not None:
            raise StageLost(self.peer, self._ended)

    def drawn(self, tokens: int) -> None:
        """The ring drew so many tokens: a new entry needs their ids."""
        for frame in self._client.fill_on(tokens):
            self._connection.send(frame)

    def hear(self, message: Message) -> None:
        """What the replacement says."""
        match message:
            case Ready() if not self._ready.done():
                self._ready.set_result(None)
            case Refuse() if not self._ready.done():
                self._ready.set_exception(Refused(self.peer, message.kind, message.why))
            case Pulse():
                self._ran = message.ran
            case Broken():
                self._ended = message.why
            case Ack():
                for frame in self._client.filled(message):
                    self._connection.send(frame)

    def lost(self, why: str) -> None:
        self._ended = why
        if not self._ready.done():
            self._ready.set_exception(StageLost(self.peer, why))
