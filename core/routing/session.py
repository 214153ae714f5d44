"""One session on the client's side: its route, its stages, its tokens.

``core.ring.client`` decides; this carries its messages to the stages and theirs back. When a stage is
lost, the session opens a route around it under a new epoch and goes on from the tokens it holds: the
drawing rule depends on positions alone, so the text stays the same.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from core.errors import NoDonor, Refused, StageLost, SwarmError
from core.ring.client import Client
from core.ring.frames import Ack, Breach, Broken, Drawn, Request, Reserved
from core.routing.ask import Waiting
from core.routing.connections import Connection, Connections
from core.routing.moving import Filling
from core.routing.watch import AskAll, Blame, Wait, Watch
from core.swarm.messages import Close, Leaving, Message, Open, Probe, Pulse, Ready, Refuse, Standby
from core.terms import PeerId, Record, Route, Sampling, Token, WireDtype

log = logging.getLogger(__name__)

OPEN_SECONDS = 3.0
"""Beyond eight round trips, what opening all stages may take."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 4.0
"""Seconds between two tries to find a donor for layers that have none, growing."""
RECOVERIES = 5
"""Routes tried for one token before the answer is given up."""


@dataclass(frozen=True)
class Way:
    """A route with what is needed to open it: records of its donors, sealed ones too."""

    route: Route
    records: dict[PeerId, Record]
    sealed: dict[PeerId, bytes]
    standbys: dict[int, PeerId] = field(default_factory=dict)
    """By a stage's index, who would replace it; their records are among the others."""


Planner = Callable[[frozenset[PeerId], Route | None], Awaitable[Way]]
"""Finds a way around the given peers, changing as little as it can of a route that was open; raises
``NoDonor``."""


@dataclass(frozen=True)
class _Lost:
    peer: PeerId | None
    why: str


class Session:
    """One conversation's caches along a route. Not for two answers at once."""

    def __init__(
        self,
        connections: Connections,
        planner: Planner,
        max_length: int,
        *,
        chunk: int = 128,
        patience: float = 30.0,
    ) -> None:
        self.id = secrets.token_bytes(16)
        self.route: Route | None = None
        self.moves = 0
        """How often the route has changed under an answer."""
        self._connections, self._planner, self._max_length = connections, planner, max_length
        self._patience = patience
        self._client = Client(self.id, chunk=chunk)
        self._stages: list[Connection] = []
        self._opened: asyncio.Future[None] | None = None
        self._events: asyncio.Queue[Token | _Lost | Way] = asyncio.Queue()
        self._filling: Filling | None = None
        self._moving: asyncio.Task[None] | None = None
        self._leaver: Connection | None = None
        self._broken: _Lost | None = None
        self._warming: asyncio.Task[None] | None = None
        self._watch = Watch(asyncio.get_running_loop().time)

    @property
    def cached(self) -> int:
        """Positions that the donors' caches hold."""
        return self._client.cached

    def common(self, ids: Sequence[int]) -> int:
        """How many of these tokens the caches already hold."""
        return 0 if self._broken else self._client.holds(ids)

    async def open(self) -> Route:
        """Makes sure of a route; raises ``NoDonor`` or another ``SwarmError`` when there is none."""
        if self.route is None or self._broken or not self._client.is_open:
            await self._reopen(frozenset())
        if self.route is None:
            raise SwarmError("no route could be opened")
        return self.route

    async def answer(
        self, ids: Sequence[int], sampling: Sampling, max_tokens: int, stops: frozenset[int]
    ) -> AsyncIterator[Token | Waiting]:
        """Tokens as they are drawn, at most ``max_tokens``; the last may be a stop id. Where layers lose
        their last donor that is said, and the answer goes on when one comes within the session's
        patience. Closing the iterator stops the answer."""
        await self.open()
        self._events = asyncio.Queue()
        client = self._client
        self._send(client.begin(ids, sampling, max_tokens, stops))
        avoid: set[PeerId] = set()
        tries = 0
        self._watch.begin()
        try:
            while client.answering or not self._events.empty():
                event = await self._next()
                if isinstance(event, Token):
                    tries = 0
                    avoid.clear()  # for longer than this, the planner remembers who failed
                    yield event
                    continue
                self.moves += 1
                lost = await self._switch(event) if isinstance(event, Way) else event
                if lost is None:
                    continue
                tries += 1
                if tries > RECOVERIES:
                    raise StageLost(lost.peer or self._someone(), lost.why)
                if lost.peer is not None:
                    avoid.add(lost.peer)
                async for waiting in self._recover(lost, avoid):
                    yield waiting
        finally:
            self._send(client.stop())
            self._part_from_leaver()

    async def _recover(self, lost: _Lost, avoid: set[PeerId]) -> AsyncIterator[Waiting]:
        """Opens another way. While there is none, says so and tries again, less and less often; by then
        whoever failed may be back."""
        clock = asyncio.get_running_loop().time
        until, pause = clock() + self._patience, FIRST_PAUSE
        while True:
            try:
                await self._reopen(frozenset(avoid))
                return
            except NoDonor as error:
                if avoid:  # who was blamed may only have been slow: better they than nobody
                    avoid.clear()
                    continue
                if clock() + pause > until:
                    raise NoDonor(error.missing, lost.why) from None
                yield Waiting(error.missing)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def close(self) -> None:
        """Frees the caches at every stage."""
        for connection in self._stages:
            connection.send(Close(self.id))
        self._leave()

    # Opening

    async def _reopen(self, avoid: frozenset[PeerId]) -> None:
        """Opens the best route around ``avoid``; donors that refuse are avoided too."""
        refused: set[PeerId] = set()
        last: Refused | StageLost | None = None
        for _ in range(RECOVERIES):
            try:
                way = await self._planner(avoid | refused, self.route)
            except NoDonor as error:
                raise NoDonor(error.missing, last.why if last else "") from None
            try:
                await self._open_way(way)
            except (Refused, StageLost) as error:
                log.info("%s", error)
                refused.add(error.peer_id)
                last = error
            else:
                return
        raise last or SwarmError("no route could be opened")

    async def _open_way(self, way: Way) -> None:
        stages = way.route.stages
        self._part_from(stage.peer_id for stage in stages)
        connections = await asyncio.gather(*(self._connect(way.records[s.peer_id]) for s in stages))
        self._stages = list(connections)
        for connection in connections:
            connection.sessions[self.id] = (self._message, self._lost)
        self.route, self._broken = way.route, None
        self._watch.begin()
        self._client.open(len(stages))
        self._opened = asyncio.get_running_loop().create_future()
        for index, connection in enumerate(connections):
            connection.send(self._open_message(way, index))
        try:
            farthest = max(connection.round_trip for connection in connections)
            await asyncio.wait_for(self._opened, OPEN_SECONDS + 8 * farthest)
        except TimeoutError:
            raise StageLost(self._unready(), "it did not answer in time") from None
        finally:
            self._opened = None
        self._warming = asyncio.create_task(self._warm(way))

    async def _warm(self, way: Way) -> None:
        """Has streams to the standbys opened: ours, and those of the stages before them."""
        for index, peer in way.standbys.items():
            before = self._stages[index - 1] if index and index <= len(self._stages) else None
            if before is not None:
                before.send(Standby(self.id, self._client.epoch, way.sealed[peer]))
            with suppress(SwarmError):
                await self._connections.to(peer, way.records[peer].addresses)

    async def _connect(self, record: Record) -> Connection:
        try:
            return await self._connections.to(record.peer_id, record.addresses)
        except SwarmError as error:
            raise StageLost(record.peer_id, error.message) from error

    # Planned leaving

    def _move_away(self, leaving: Leaving) -> None:
        """A stage will be gone soon: move off it while it serves."""
        self._leaver = self._stages[leaving.stage]
        if not self._client.answering:
            self._part_from_leaver()
        elif self._moving is None or self._moving.done():
            self._moving = asyncio.create_task(self._fill(leaving))

    def _part_from_leaver(self) -> None:
        """Between answers a stage that leaves is let go at once: the next answer opens a way around it,
        and the log of the stage before it fills the replacement then."""
        leaver, self._leaver = self._leaver, None
        if leaver is not None and leaver in self._stages:
            leaver.send(Close(self.id))
            self._broken = _Lost(leaver.remote, "it is leaving")

    async def _fill(self, leaving: Leaving) -> None:
        """Fills a replacement, then has the answer change over. If that fails, the answer goes on as it
        is, and recovers when the stage has gone."""
        index, route = leaving.stage, self.route
        if route is None:
            return
        try:
            way = await self._planner(frozenset({route.stages[index].peer_id}), route)
            if [stage.span for stage in way.route.stages] != [stage.span for stage in route.stages]:
                self._events.put_nowait(way)  # other stages change too: their logs do the rest
                return
            await self._fill_stage(way, index)
        except SwarmError as error:
            log.info("a replacement could not be filled: %s", error)
        else:
            if self.route is route and self._client.answering:
                self._events.put_nowait(way)
        finally:
            self._filling = None

    async def _fill_stage(self, way: Way, index: int) -> None:
        peer = way.route.stages[index].peer_id
        connection = await self._connect(way.records[peer])
        connection.sessions.setdefault(self.id, (self._message, self._lost))
        epoch = self._client.fill()
        before = self._stages[index - 1] if index else None
        opening = self._open_message(way, index, epoch)
        self._filling = Filling(self._client, connection, before, opening, way.sealed[peer])
        await self._filling.run(self._client.turn(epoch, 0), self._client.epoch)

    async def _switch(self, way: Way) -> _Lost | None:
        """Opens the way that was made ready; what is wrong with it otherwise."""
        try:
            await self._open_way(way)
        except (Refused, StageLost) as error:
            return _Lost(error.peer_id, error.why)
        return None

    def _open_message(self, way: Way, index: int, epoch: int | None = None) -> Open:
        stages = way.route.stages
        stage, following = stages[index], stages[(index + 1) % len(stages)].peer_id
        model = way.records[stage.peer_id].model
        return Open(
            session=self.id,
            epoch=self._client.epoch if epoch is None else epoch,
            rollback=self._client.rollback,
            stage=index,
            stages=len(stages),
            model_id=model.model_id,
            revision=model.revision,
            span=stage.span,
            wire=_wire([way.records[s.peer_id] for s in stages]),
            max_length=self._max_length,
            previous=stages[index - 1].peer_id,
            following=b"" if following == stage.peer_id else way.sealed[following],
        )

    def _part_from(self, staying: Iterable[PeerId]) -> None:
        """Frees what donors hold that are on the route no more."""
        stay = set(staying)
        for connection in self._stages:
            if connection.remote not in stay:
                connection.send(Close(self.id))
        self._leave()
        self._broken = self._broken or _Lost(None, "its route was being changed")

    def _leave(self) -> None:
        for task in (self._warming, self._moving):
            if task is not None:
                task.cancel()
        for connection in self._stages:
            connection.sessions.pop(self.id, None)
        self._stages = []

    def _unready(self) -> PeerId:
        stages = self.route.stages if self.route else ()
        waiting = [s.peer_id for index, s in enumerate(stages) if index not in self._client.ready_stages]
        return waiting[0] if waiting else self._someone()

    def _someone(self) -> PeerId:
        return self.route.entry.peer_id if self.route else PeerId("?")

    # Messages

    async def _next(self) -> Token | _Lost | Way:
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
            case Blame(stage, why):
                self._note(_Lost(self._stages[stage].remote, why))
            case AskAll(number):
                for connection in {c.remote: c for c in self._stages}.values():
                    connection.send(Probe(self.id, self._client.epoch, number))
        return 0.0

    def _send(self, messages: Iterable[tuple[int, Request]]) -> None:
        for stage, message in messages:
            if stage < len(self._stages):
                self._stages[stage].send(message)

    def _message(self, remote: PeerId, message: Message) -> None:
        """What a stage says; what it says for another stage, or of another epoch, is not heard."""
        filling = self._filling
        if filling is not None and remote == filling.peer and getattr(message, "epoch", 0) == filling.epoch:
            filling.hear(message)
            return
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
            case Refuse() if self._is_at(remote, message.stage):
                self._refused(remote, message)
            case Pulse() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                self._watch.pulse(message)
            case Leaving() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                self._move_away(message)
            case Broken() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                self._note(_Lost(self._blame(message), message.why))

    def _drawn(self, message: Drawn) -> None:
        tokens, sends = self._client.drawn(message)
        for token in tokens:
            self._events.put_nowait(token)
        if self._filling is not None:
            self._filling.drawn(len(tokens))
        self._send(sends)
        if self._client.lost:
            self._note(_Lost(None, "tokens were lost"))

    def _ready(self, message: Ready) -> None:
        self._send(self._client.ready(message.stage, message.epoch, message.standing))
        if self._client.is_open and self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def _is_at(self, remote: PeerId, stage: int) -> bool:
        """Whether this peer is that stage: no donor speaks for another."""
        return 0 <= stage < len(self._stages) and self._stages[stage].remote == remote

    def _refused(self, remote: PeerId, message: Refuse) -> None:
        if message.epoch == self._client.epoch and self._opened is not None and not self._opened.done():
            blamed = remote
            if message.kind == "unreachable" and self.route is not None:
                blamed = self.route.stages[(message.stage + 1) % len(self.route.stages)].peer_id
            self._opened.set_exception(Refused(blamed, message.kind, message.why))

    def _blame(self, broken: Broken) -> PeerId | None:
        """Whom the next route avoids: the unreachable next stage, or a donor that is full, leaving or
        computes nonsense; nobody for what a network does."""
        if self.route is None or broken.breach in {Breach.GAP, Breach.POSITION, Breach.LAPSED}:
            return None
        stages = self.route.stages
        step = 1 if broken.breach is Breach.UNREACHABLE else 0
        return stages[(broken.stage + step) % len(stages)].peer_id

    def _lost(self, remote: PeerId, why: str) -> None:
        if self._filling is not None and remote == self._filling.peer:
            self._filling.lost(why)
        if all(connection.remote != remote for connection in self._stages):
            return
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(StageLost(remote, why))
        else:
            self._note(_Lost(remote, why))

    def _note(self, lost: _Lost) -> None:
        """Once an epoch: the first sign of trouble is the one that counts."""
        if self._broken is None:
            self._broken = lost
            if self._client.answering:
                self._events.put_nowait(lost)


def _wire(records: Sequence[Record]) -> WireDtype:
    """What the stages compute in, if that is one thing, else the smaller."""
    if all(record.wire[:1] == (WireDtype.FLOAT32,) for record in records):
        return WireDtype.FLOAT32
    return WireDtype.BFLOAT16
