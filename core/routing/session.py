"""One session on the client's side: answers over one route after the other.

When a stage is lost, the session opens a route around it under a new epoch and goes on from the tokens it
holds: the drawing rule depends on positions alone, so the text stays the same. While there is no route it
waits for one, within its patience. What is said to the stages is in ``core.routing.stages``, how it moves off
one that leaves as planned in ``core.routing.leaving``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from core.errors import NoDonor, Refused, StageLost, SwarmError
from core.ring.client import CHUNK, common
from core.routing.ask import Waiting
from core.routing.connections import Connections
from core.routing.leaving import MovableStages
from core.routing.losses import Lost
from core.routing.moving import Prepared
from core.routing.opening import (
    UNANSWERED,
    CannotDial,
    Failed,
    Planner,
    Report,
    Source,
    Undialable,
    Way,
)
from core.routing.patience import Patience
from core.swarm.messages import Standby
from core.swarm.watch import spread
from core.terms import PeerId, Route, Sampling, Token

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0


class _Unanswered(NoDonor):
    """There were donors, but some did not answer in time as a route was opened: they, or we, may be busy."""


class Session(MovableStages):
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
        super().__init__(connections, planner, max_length, chunk=chunk, report=report)
        self.moves = 0
        """How often the route has changed under an answer."""
        self.patience = patience

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
                if error.lasting:
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

    def _someone(self) -> PeerId:
        return self.route.entry.peer_id if self.route else PeerId("?")
