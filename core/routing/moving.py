"""Moving off a donor that leaves as planned: its replacement is filled while it still serves.

The stage before it copies its log and all it sends to the replacement, in an epoch that only those two
and the client know; the client does so itself for a new entry. When the replacement has nearly caught
up, the session opens its new route, and little is left to replay.
"""

from __future__ import annotations

import asyncio

from core.errors import Refused, StageLost
from core.ring.client import Client
from core.ring.frames import Ack, Turn
from core.routing.connections import Connection
from core.swarm.messages import Copy, Message, Open, Probe, Pulse, Ready, Refuse
from core.terms import PeerId

READY_SECONDS = 3.0
LOOK_SECONDS = 0.05
NEARLY = 8
"""Positions that the replacement may still lack when the route changes."""


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

    @property
    def peer(self) -> PeerId:
        return self._connection.remote

    async def run(self, turn: Turn, serving_epoch: int) -> None:
        """Returns when the replacement has nearly caught up. Raises ``SwarmError``."""
        self._connection.send(self._opening)
        try:
            await asyncio.wait_for(self._ready, READY_SECONDS)
        except TimeoutError:
            raise StageLost(self.peer, "it did not answer") from None
        self._connection.send(self._client.fill_terms(self.epoch))
        if self._opening.stage == self._opening.stages - 1:
            self._connection.send(turn)
        if self._before is None:
            for frame in self._client.fill_entry():
                self._connection.send(frame)
        else:
            self._before.send(Copy(self._opening.session, serving_epoch, self.epoch, self._sealed))
        number = 0
        while self._ran < len(self._client.ids) - NEARLY:
            number += 1
            self._connection.send(Probe(self._opening.session, self.epoch, number))
            await asyncio.sleep(LOOK_SECONDS)

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
            case Ack():
                for frame in self._client.filled(message):
                    self._connection.send(frame)

    def lost(self, why: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(StageLost(self.peer, why))
