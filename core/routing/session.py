"""One session on the client's side: its route, its stages, its tokens.

``core.ring.client`` decides; this carries its messages to the stages and theirs back. When a stage is
lost, the session opens a route around it under a new epoch and goes on from the tokens it holds: the
drawing rule depends on positions alone, so the text stays the same. While there is no route it waits
for one, within its patience.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, suppress

from core.errors import NoDonor, Refused, StageLost, SwarmError
from core.ring.client import CHUNK, Client, common
from core.ring.frames import Ack, Broken, Drawn, Request, Reserved
from core.routing.ask import Waiting
from core.routing.connections import Connection, Connections
from core.routing.losses import Lost, loss
from core.routing.moving import Asking, Filling, Prepared
from core.routing.opening import (
    OPEN_SECONDS,
    UNANSWERED,
    CannotDial,
    Failed,
    Opening,
    Planner,
    Report,
    Source,
    Undialable,
    Way,
    connect,
    connect_all,
    open_message,
)
from core.routing.patience import Patience
from core.routing.seen import Pace
from core.routing.watch import LATE_TIMES, AskAll, Blame, Wait, Watch
from core.swarm.messages import Close, Leaving, Message, Open, Probe, Pulse, Ready, Refuse, Standby
from core.swarm.watch import spread
from core.terms import PeerId, Route, Sampling, Token

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0


class _Unanswered(NoDonor):
    """There were donors, but some did not answer in time as a route was opened: they, or we, may be busy."""


class Session:
    """One conversation's caches along a route. Not for two answers at once. ``patience`` is for how many
    seconds layers without a donor are waited for; it may be changed between answers."""

    def __init__(
        self,
        connections: Connections,
        planner: Planner,
        max_length: int,
        *,
        chunk: int = CHUNK,
        patience: float = PATIENCE_SECONDS,
        report: Report = lambda _trouble: None,
    ) -> None:
        self.id = secrets.token_bytes(16)
        self.route: Route | None = None
        self.moves = 0
        """How often the route has changed under an answer."""
        self.patience = patience
        self._connections, self._planner, self._max_length = connections, planner, max_length
        self._report = report
        self._client = Client(self.id, chunk=chunk)
        self._stages: list[Connection] = []
        self._opening: Opening | None = None
        self._events: asyncio.Queue[Token | Lost | Way | Prepared] = asyncio.Queue()
        self._filling: Filling | None = None
        self._spare: Connection | None = None
        """A donor that was filled, wholly or in part, and is on no route yet."""
        self._asking: Asking | None = None
        self._moving: asyncio.Task[None] | None = None
        self._leaver: Connection | None = None
        self._broken: Lost | None = None
        self._warming: asyncio.Task[None] | None = None
        self._clock = asyncio.get_running_loop().time
        self._watch = Watch(self._clock, connections.lateness)
        self.pace = Pace(self._clock)
        """Of the last answer, since its route changed last."""
        self._source: Source | None = None
        self.narrow: bool | None = None
        """Whether prompts travel in int8 blocks; ``None`` until the first way is known."""

    @property
    def cached(self) -> int:
        """Positions that the donors' caches hold."""
        return self._client.cached

    def common(self, ids: Sequence[int]) -> int:
        """How many of these tokens the caches already hold."""
        return 0 if self._broken else self._client.holds(ids)

    def alike(self, ids: Sequence[int]) -> int:
        """How many of these tokens another session could take over from this one's donors."""
        if self.route is None or self._broken:
            return 0
        return min(common(self._client.ids, ids), self._client.cached, len(ids) - 1)

    def take_over(self, other: Session, ids: Sequence[int]) -> None:
        """Before the first opening: begin over the donors of another session of this client, which have run
        the first of these tokens already and copy what they hold of them."""
        shared = other.alike(ids)
        if self.route is None and shared > 0:
            self.narrow = other.narrow
            self.route = other.route  # a plan changes of it what it must
            self._source = Source(other.id, other._client.rollback, shared)
            self._client.adopt(ids[:shared])

    async def open(self) -> Route:
        """Makes sure of a route, waiting for one as long as the session's patience lasts."""
        async with aclosing(self.opening()) as waiting:  # type: ignore[type-var]
            async for _ in waiting:
                pass
        if self.route is None:
            raise SwarmError("no route could be opened")
        return self.route

    async def opening(self) -> AsyncIterator[Waiting]:
        """Makes sure of a route; says what is waited for while there is none. Raises ``SwarmError`` when
        patience ends."""
        if self.route is None or self._broken or not self._client.is_open:
            patience = Patience(self._clock, self.patience)
            async with aclosing(self._find(set(), "", patience)) as finding:  # type: ignore[type-var]
                async for waiting in finding:
                    yield waiting

    async def answer(
        self, ids: Sequence[int], sampling: Sampling, max_tokens: int, stops: frozenset[int]
    ) -> AsyncIterator[Token | Waiting]:
        """Tokens as they are drawn, at most ``max_tokens``; the last may be a stop id. Where layers lose
        their last donor that is said, and the answer goes on when one comes within the session's
        patience. Closing the iterator, or cancelling who waits on it, stops the answer at once."""
        async with aclosing(self.opening()) as opening:  # type: ignore[type-var]
            async for waiting in opening:
                yield waiting
        self._events = asyncio.Queue()
        client = self._client
        self._send(client.begin(ids, sampling, max_tokens, stops))
        self._source = None
        avoid: set[PeerId] = set()
        patience = Patience(self._clock, self.patience)
        ready: Way | Prepared | None = None
        self._begin()
        try:
            while client.answering or not self._events.empty():
                event = await self._next()
                if isinstance(event, Way | Prepared):
                    ready = event  # just after a token, when least is under way that would be lost
                    continue
                lost = event if isinstance(event, Lost) else None
                if isinstance(event, Token):
                    patience.progress()
                    avoid.clear()  # for longer than this, the planner remembers who failed
                    yield event
                    if ready is None or not client.answering:
                        continue
                    lost = await self._switch(ready)
                ready = None
                self.moves += 1
                if lost is None:
                    continue
                await self._bear(lost, avoid, patience)
                async with aclosing(self._find(avoid, lost.why, patience)) as finding:  # type: ignore[type-var]
                    async for waiting in finding:
                        yield waiting
        finally:
            self._send(client.stop())
            self._part_from_leaver()

    async def _bear(self, lost: Lost, avoid: set[PeerId], patience: Patience) -> None:
        """Notes who was lost, and pauses where that happens again and again without a token between."""
        if lost.peer is not None:
            avoid.add(lost.peer)
            if lost.tell:
                self._report(Failed(lost.peer, lost.heals))
        pause = patience.pause(nonsense=lost.nonsense)
        if pause is None:
            raise StageLost(lost.peer or self._someone(), lost.why)
        await asyncio.sleep(spread(pause))

    async def _find(self, avoid: set[PeerId], why: str, patience: Patience) -> AsyncIterator[Waiting]:
        """Opens a way. While there is none, says so and tries again, less and less often; by then whoever
        failed may be back, or room may have come where a donor was full."""
        told: Waiting | None = None
        while True:
            try:
                await self._reopen(frozenset(avoid))
                return
            except NoDonor as error:
                nobody = not isinstance(error, _Unanswered)
                if avoid:  # who was blamed may only have been slow: better they than nobody
                    avoid.clear()
                    continue
                waiting = Waiting(error.missing, error.why or why)
            except SwarmError as error:  # the directory did not answer
                waiting, nobody = Waiting((), error.message), True
            pause = patience.pause(nobody=nobody)
            if pause is None:
                raise NoDonor(waiting.missing, waiting.why)
            if told is None or told.missing != waiting.missing:
                told = waiting
                yield waiting
            await asyncio.sleep(spread(pause))

    def close(self) -> None:
        """Frees the caches at every stage."""
        self._part_from(())

    # Opening

    async def _reopen(self, avoid: frozenset[PeerId]) -> None:
        """Opens the best route around ``avoid``; donors that refuse are avoided too, until there is a route
        or no donor is left to ask: ``NoDonor``, with the last refusal."""
        refused: set[PeerId] = set()
        pairs: set[Undialable] = set()
        before, why, unanswered = self.route, "", False
        while True:
            try:
                way = await self._planner(avoid | refused, before)
            except NoDonor as error:
                kind = _Unanswered if unanswered else NoDonor
                raise kind(error.missing, why) from None
            try:
                await self._open_way(way)
                return
            except CannotDial as error:
                self._report(error.pair)
                self._have_dialled(way, error.pair)
                if error.pair in pairs:
                    refused.add(error.peer_id)
                pairs.add(error.pair)
                before, why = None, error.why  # the same donors in another order may do
                unanswered = unanswered or why == UNANSWERED
            except Refused as error:
                refused.add(error.peer_id)
                why = error.why
            except StageLost as error:
                self._report(Failed(error.peer_id))
                refused.add(error.peer_id)
                why, unanswered = error.why, unanswered or error.why == UNANSWERED
            log.info("a route could not be opened: %s", why)

    def _have_dialled(self, way: Way, pair: Undialable) -> None:
        """Has the other one dial who could not reach it: it may get through where that did not, from behind a
        router or while that must wait before it tries again. A connection serves both."""
        for connection in self._stages:
            if connection.remote == pair.other:
                connection.send(Standby(self.id, self._client.epoch, way.sealed[pair.one]))

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
            self._broken = Lost(leaver.remote, "it is leaving")

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
            prepared = await self._ask_ahead(way)
        except SwarmError as error:
            log.info("a replacement could not be filled: %s", error)
        else:
            if self.route is route and self._client.answering:
                self._events.put_nowait(prepared)
        finally:
            self._filling = self._asking = None

    def _part_from_spare(self) -> None:
        """What it holds would be in the way of filling it another time."""
        spare, self._spare = self._spare, None
        if spare is not None and all(spare.remote != connection.remote for connection in self._stages):
            spare.send(Close(self.id))

    async def _ask_ahead(self, way: Way) -> Prepared:
        """Has all stages open the way while the ring still goes over the one before."""
        stages = await connect_all(self._connections, way, self._report)
        epoch = self._client.ask_ahead()
        opens = [self._open_message(way, index, epoch, ahead=True) for index in range(len(stages))]
        here = [connection.remote for connection in self._stages]
        staying = frozenset(index for index, line in enumerate(stages) if here[index] == line.remote)
        for connection in stages:
            connection.sessions.setdefault(self.id, (self._message, self._lost))
        self._asking = Asking(way, stages, opens)
        return await self._asking.run(staying)

    async def _fill_stage(self, way: Way, index: int) -> None:
        peer = way.route.stages[index].peer_id
        connection = await connect(self._connections, way.records[peer])
        connection.sessions.setdefault(self.id, (self._message, self._lost))
        self._spare = connection
        epoch = self._client.fill()
        before = self._stages[index - 1] if index else None
        if before is None:
            self._stages[-1].send(Standby(self.id, self._client.epoch, way.sealed[peer]))
        opening = self._open_message(way, index, epoch)
        self._filling = Filling(self._client, connection, before, opening, way.sealed[peer])
        try:
            await self._filling.run(self._client.epoch)
        except SwarmError:
            self._part_from_spare()
            raise

    async def _switch(self, ready: Way | Prepared) -> Lost | None:
        """Changes over to the way that was made ready; what is wrong with it otherwise."""
        if isinstance(ready, Prepared):
            self._change_over(ready)
            return None
        try:
            await self._open_way(ready)
        except (Refused, StageLost) as error:
            return Lost(error.peer_id, error.why, tell=isinstance(error, StageLost))
        return None

    def _change_over(self, ready: Prepared) -> None:
        """All its stages wait for it."""
        self._part_from(connection.remote for connection in ready.stages)
        self._stages = list(ready.stages)
        for connection in self._stages:
            connection.sessions[self.id] = (self._message, self._lost)
        self.route, self._broken = ready.way.route, None
        self._begin()
        self._send(self._client.change_over(ready.epoch, ready.standings, ready.staying))
        self._warming = asyncio.create_task(self._warm(ready.way))

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

    def _part_from(self, staying: Iterable[PeerId]) -> None:
        """Frees what donors hold that are on the route no more."""
        stay = set(staying)
        for connection in (*self._stages, *([self._spare] if self._spare else [])):
            if connection.remote not in stay:
                connection.send(Close(self.id))
        self._spare = None
        self._leave()
        self._broken = self._broken or Lost(None, "its route was being changed")

    def _leave(self) -> None:
        for task in (self._warming, self._moving):
            if task is not None:
                task.cancel()
        for connection in self._stages:
            connection.sessions.pop(self.id, None)
        self._stages = []

    def _someone(self) -> PeerId:
        return self.route.entry.peer_id if self.route else PeerId("?")

    # Messages

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
        asking = self._asking
        if asking is not None and isinstance(message, Ready | Refuse) and message.epoch == asking.epoch:
            asking.hear(remote, message)
            return
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
            case Leaving() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                self._move_away(message)
            case Broken() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                self._note(loss(message, self.route))

    def _begin(self) -> None:
        """A new answer, or a new route."""
        self._watch.begin()
        self.pace.begin()

    def _drawn(self, message: Drawn) -> None:
        self.pace.drawn()
        tokens, sends = self._client.drawn(message)
        for token in tokens:
            self._events.put_nowait(token)
        if self._filling is not None:
            self._filling.drawn(len(tokens))
        self._send(sends)
        if self._client.lost:
            self._note(Lost(None, "tokens were lost"))

    def _ready(self, message: Ready) -> None:
        self._send(self._client.ready(message.stage, message.epoch, message.standing))
        if self._client.is_open and self._opening is not None:
            self._opening.ready()

    def _is_at(self, remote: PeerId, stage: int) -> bool:
        """Whether this peer is that stage: no donor speaks for another."""
        return 0 <= stage < len(self._stages) and self._stages[stage].remote == remote

    def _lost(self, remote: PeerId, why: str) -> None:
        if self._filling is not None and remote == self._filling.peer:
            self._filling.lost(why)
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
