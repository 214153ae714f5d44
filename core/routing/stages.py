"""The stages of one session while a route is open: what is said to them, and what they say.

``core.ring.client`` decides; this carries its messages to the stages and theirs back, and notes the first
sign of trouble in each epoch. What is done about it is the session's (``core.routing.session``).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from contextlib import suppress

from core.errors import Refused, StageLost, SwarmError
from core.ring.client import CHUNK, Client
from core.ring.frames import Ack, Broken, Drawn, Request, Reserved
from core.routing.connections import Connection, Connections
from core.routing.losses import Lost, loss
from core.routing.moving import Prepared
from core.routing.opening import (
    OPEN_SECONDS,
    Opening,
    Report,
    Source,
    Way,
    connect_all,
    open_message,
)
from core.routing.seen import Pace
from core.routing.watch import LATE_TIMES, AskAll, Blame, Wait, Watch
from core.swarm.messages import Close, Message, Open, Probe, Pulse, Ready, Refuse, Standby
from core.terms import PeerId, Route, Token


class Stages:
    """Of a session over one route after the other. ``report`` is told of donors that were lost."""

    def __init__(
        self,
        connections: Connections,
        max_length: int,
        *,
        chunk: int = CHUNK,
        report: Report = lambda _: None,
    ) -> None:
        self.id = secrets.token_bytes(16)
        self.route: Route | None = None
        self.narrow: bool | None = None
        """Whether prompts travel in int8 blocks; ``None`` until the first way is known."""
        self._connections, self._max_length, self._report = connections, max_length, report
        self._client = Client(self.id, chunk=chunk)
        self._stages: list[Connection] = []
        self._opening: Opening | None = None
        self._events: asyncio.Queue[Token | Lost | Way | Prepared] = asyncio.Queue()
        self._broken: Lost | None = None
        self._warming: asyncio.Task[None] | None = None
        self._clock = asyncio.get_running_loop().time
        self._watch = Watch(self._clock, connections.lateness)
        self.pace = Pace(self._clock)
        """Of the last answer, since its route changed last."""
        self._source: Source | None = None

    # Opening

    async def _open_way(self, way: Way) -> None:
        stages = way.route.stages
        self._part_from(stage.peer_id for stage in stages)
        self._stages = await connect_all(self._connections, way, self._report)
        for connection in self._stages:
            connection.sessions[self.id] = (self._message, self._lost)
        self.route, self._broken = way.route, None
        self._begin()
        self._client.open(len(stages))
        self._opening = Opening(way.route, self._stages, self._watch, self._report)
        for index, connection in enumerate(self._stages):
            connection.send(self._open_message(way, index))
        try:
            farthest = max(connection.round_trip for connection in self._stages)
            late = LATE_TIMES * self._connections.lateness.shared
            await self._opening.wait(OPEN_SECONDS + 8 * farthest + late, self._client)
        except (Refused, StageLost) as error:
            self._broken = self._broken or Lost(error.peer_id, error.why)
            raise
        finally:
            self._opening = None
        self._warming = asyncio.create_task(self._warm(way))

    async def _warm(self, way: Way) -> None:
        """Has streams to the standbys opened: ours, and those of the stages before them; before the entry is
        the tail, which sends it what it draws."""
        for index, peer in way.standbys.items():
            if index < len(self._stages):
                self._stages[index - 1].send(Standby(self.id, self._client.epoch, way.sealed[peer]))
            with suppress(SwarmError):
                await self._connections.to(peer, way.records[peer].addresses)

    def _open_message(self, way: Way, index: int, epoch: int | None = None, *, ahead: bool = False) -> Open:
        return open_message(
            way,
            index,
            session=self.id,
            epoch=self._client.epoch if epoch is None else epoch,
            rollback=self._client.rollback,
            max_length=self._max_length,
            source=self._source,
            narrow=self._is_narrow(way),
            ahead=ahead,
        )

    def _is_narrow(self, way: Way) -> bool:
        """As the session began: what donors have logged in int8 blocks is replayed so."""
        if self.narrow is None:
            self.narrow = way.narrow
        return self.narrow

    # Parting

    def _part_from(self, staying: Iterable[PeerId]) -> None:
        """Frees what donors hold that are on the route no more."""
        stay = set(staying)
        for connection in self._stages:
            if connection.remote not in stay:
                connection.send(Close(self.id))
        self._leave()
        self._broken = self._broken or Lost(None, "its route was being changed")

    def _leave(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
        for connection in self._stages:
            connection.sessions.pop(self.id, None)
        self._stages = []

    # Silence

    def _begin(self) -> None:
        """A new answer, or a new route."""
        self._watch.begin()
        self.pace.begin()

    async def _next(self) -> Token | Lost | Way | Prepared:
        """The next token, or what broke, or a way that was made ready. A silence that is too long for
        this ring is looked into."""
        while True:
            wait = self._look_into() if self._events.empty() else None
            try:
                async with asyncio.timeout(wait):
                    event = await self._events.get()
            except TimeoutError:
                continue
            if isinstance(event, Token):
                self._watch.token()
            return event

    def _look_into(self) -> float:
        """Asks the stages, or blames one; returns the seconds until the next look."""
        match self._watch.check(self._stages):
            case Wait(seconds):
                return seconds
            case Blame(stage, why, silent):
                self._note(Lost(self._stages[stage].remote, why, heals=silent))
            case AskAll(number):
                for connection in {c.remote: c for c in self._stages}.values():
                    connection.send(Probe(self.id, self._client.epoch, number))
        return 0.0

    # Messages

    def _send(self, messages: Iterable[tuple[int, Request]]) -> None:
        for stage, message in messages:
            if stage < len(self._stages):
                self._stages[stage].send(message)

    def _message(self, remote: PeerId, message: Message) -> None:
        """What a stage says; what it says for another stage, or of another epoch, is not heard."""
        self._watch.heard()
        match message:
            case Drawn() if self._is_at(remote, len(self._stages) - 1):
                self._drawn(message)
            case Reserved() if self._is_at(remote, message.stage):
                self._send(self._client.reserved(message))
            case Ack() if self._is_at(remote, 0):
                self._send(self._client.acknowledge(message))
            case Ready() if self._is_at(remote, message.stage):
                self._ready(message)
            case Refuse() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                if self._opening is not None:
                    self._opening.refused(remote, message)
            case Pulse() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                self._watch.pulse(message)
            case Broken() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                self._note(loss(message, self.route))

    def _drawn(self, message: Drawn) -> int:
        """Returns how many of the tokens are new."""
        self.pace.drawn()
        tokens, sends = self._client.drawn(message)
        for token in tokens:
            self._events.put_nowait(token)
        self._send(sends)
        if self._client.lost:
            self._note(Lost(None, "tokens were lost"))
        return len(tokens)

    def _ready(self, message: Ready) -> None:
        self._send(self._client.ready(message.stage, message.epoch, message.standing))
        if self._client.is_open and self._opening is not None:
            self._opening.ready()

    def _is_at(self, remote: PeerId, stage: int) -> bool:
        """Whether this peer is that stage: no donor speaks for another."""
        return 0 <= stage < len(self._stages) and self._stages[stage].remote == remote

    def _lost(self, remote: PeerId, why: str) -> None:
        if all(connection.remote != remote for connection in self._stages):
            return
        if self._opening is not None and not self._opening.is_done:
            self._opening.lost(remote, why)
        else:
            self._note(Lost(remote, why))

    def _note(self, lost: Lost) -> None:
        """Once an epoch: the first sign of trouble is the one that counts."""
        if self._broken is None:
            self._broken = lost
            if self._client.answering:
                self._events.put_nowait(lost)
