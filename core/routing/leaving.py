"""A session whose stages may leave as planned: it moves off them while they serve.

How a replacement is filled and a route opened ahead is in ``core.routing.moving``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from core.errors import Refused, StageLost, SwarmError
from core.ring.client import CHUNK
from core.ring.frames import Drawn
from core.routing.connections import Connection, Connections
from core.routing.losses import Lost
from core.routing.moving import Asking, Filling, Prepared
from core.routing.opening import Planner, Report, Way, connect, connect_all
from core.routing.stages import Stages
from core.swarm.messages import Close, Leaving, Message, Ready, Refuse, Standby
from core.terms import PeerId

log = logging.getLogger(__name__)


class MovableStages(Stages):
    """``planner`` finds a way around who leaves."""

    def __init__(
        self,
        connections: Connections,
        planner: Planner,
        max_length: int,
        *,
        chunk: int = CHUNK,
        report: Report = lambda _trouble: None,
    ) -> None:
        super().__init__(connections, max_length, chunk=chunk, report=report)
        self._planner = planner
        self._filling: Filling | None = None
        self._spare: Connection | None = None
        """A donor that was filled, wholly or in part, and is on no route yet."""
        self._asking: Asking | None = None
        self._moving: asyncio.Task[None] | None = None
        self._leaver: Connection | None = None

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

    # Besides what stages do

    def _part_from(self, staying: Iterable[PeerId]) -> None:
        stay = set(staying)
        if self._spare is not None and self._spare.remote not in stay:
            self._spare.send(Close(self.id))
        self._spare = None
        super()._part_from(stay)

    def _leave(self) -> None:
        if self._moving is not None:
            self._moving.cancel()
        super()._leave()

    def _message(self, remote: PeerId, message: Message) -> None:
        filling = self._filling
        if filling is not None and remote == filling.peer and getattr(message, "epoch", 0) == filling.epoch:
            filling.hear(message)
            return
        asking = self._asking
        if asking is not None and isinstance(message, Ready | Refuse) and message.epoch == asking.epoch:
            self._watch.heard()
            asking.hear(remote, message)
            return
        super()._message(remote, message)
        match message:
            case Leaving() if message.epoch == self._client.epoch and self._is_at(remote, message.stage):
                self._move_away(message)

    def _drawn(self, message: Drawn) -> int:
        count = super()._drawn(message)
        if self._filling is not None:
            self._filling.drawn(count)
        return count

    def _lost(self, remote: PeerId, why: str) -> None:
        if self._filling is not None and remote == self._filling.peer:
            self._filling.lost(why)
        super()._lost(remote, why)
