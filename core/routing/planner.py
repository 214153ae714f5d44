"""Routes for a client's sessions: what is known of donors, delays and load, given to ``route``.

The records come from the directory, delays from them and from this client's own round trips. Readers
are spread: a donor counts as slower the more it has, those of this client known at once, others' as its
record tells.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace

from core.errors import NoDonor, SwarmError
from core.routing.connections import Connections
from core.routing.delays import Delays
from core.routing.opening import Failed, Trouble, Way
from core.routing.route import Delay, layer_seconds, mend, missing, plan, predict
from core.routing.seen import BELIEVED, Experience, Pace, Part
from core.swarm.peer import Peer
from core.swarm.watch import Watcher
from core.terms import DonorState, ModelRef, PeerId, Record, Route, WireDtype

log = logging.getLogger(__name__)

READ_SECONDS = 0.5
"""For no longer than this a plan around someone waits for fresh records."""
READER = 0.04
"""What one more reader adds to a donor's step: eight at once cost 1.2 to 1.3 times one."""
CROWDED_TOKENS = 256
"""A donor with less free cache may have to turn a new session away,"""
CROWDED = 0.2
"""and counts as so much slower."""
SLOW_TIMES = 2.0
"""Int8 blocks are worth their error where sending a row takes so many times what running it takes."""
APART = 1000.0
"""Seconds that count as the way between two donors of which one cannot dial the other."""
WARM = 0.9
"""Who was said to replace a stage is taken before an equal: streams to it are open."""


class Planner:
    """``hidden`` is the width of the model's activations. Sessions are told apart by numbers of their
    own, which also seed how they spread over equal donors."""

    def __init__(self, peer: Peer, model: ModelRef, hidden: int, connections: Connections) -> None:
        self._peer, self._model, self._hidden = peer, model, hidden
        self._connections = connections
        self._watcher = Watcher(peer.directory, model)
        self.own: PeerId | None = None
        """A donor that says it is leaving and still serves this peer: its owner's."""
        self.experience = Experience(time.monotonic)
        self._suspects = self.experience.suspects
        self._reading: asyncio.Task[tuple[Record, ...]] | None = None
        self._answering: dict[int, Route] = {}
        self._standbys: dict[int, frozenset[PeerId]] = {}

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self._watcher.close()

    async def records(self, *, fresh: bool = False) -> tuple[Record, ...]:
        """The donors of this model: as last read, or read now."""
        known = self._watcher.records
        return await self._watcher.refresh() if fresh or not known else known

    async def glance(self, age: float) -> tuple[Record, ...]:
        """The same for who only looks: not older than ``age`` seconds, or than reading so many allows."""
        return await self._watcher.glance(age)

    async def believed(self, *, fresh: bool = False) -> tuple[Record, ...]:
        """The same as far as this reader believes them."""
        return self.experience.seen.believed(await self.records(fresh=fresh))

    @property
    def whole(self) -> bool:
        """Whether donors that are believed serve all layers, as far as is known now."""
        believed = [one for one in self._watcher.last if self.experience.trust(one.peer_id) >= BELIEVED]
        return not missing(believed, self._model.layers)

    # Who answers over which donors

    def begin(self, session: int, route: Route) -> Route:
        """This session answers over this route now: its donors have one more reader. Returns the route
        with what is predicted from all that is known, its opening included."""
        self._answering[session] = route
        records = self.experience.seen.believed(self._watcher.records)
        if not {stage.peer_id for stage in route.stages} <= {record.peer_id for record in records}:
            return route
        seconds = predict(route.stages, records, self._delays(records), self._row_bytes(records))
        return replace(route, predicted_seconds=seconds)

    def answered(self, session: int, route: Route, pace: Pace) -> None:
        """It gave an answer over this route, whose last rounds took so long."""
        records = {record.peer_id: record for record in self._watcher.records}
        if not {stage.peer_id for stage in route.stages} <= records.keys():
            return
        readers = self._readers(session)
        parts = [
            Part(
                stage.peer_id,
                len(stage.span),
                layer_seconds(record := records[stage.peer_id]),
                loaded(record, readers[stage.peer_id]),
            )
            for stage in route.stages
        ]
        known = records.values()
        whole = predict(route.stages, known, self._delays(known), self._row_bytes(known))
        ways = whole - sum(part.layers * part.claimed for part in parts)
        self.experience.answered(parts, pace.rounds, ways, pace.seconds, known)

    def end(self, session: int) -> None:
        """The answer has ended."""
        self._answering.pop(session, None)

    def forget(self, session: int) -> None:
        """The session is gone."""
        self.end(session)
        self._standbys.pop(session, None)

    # Planning

    async def way(self, session: int, avoid: Collection[PeerId], before: Route | None) -> Way:
        """A route around ``avoid``, over records read a moment ago where the known ones do not do; as
        much of ``before`` as can stay does. Raises ``NoDonor``."""
        records = await self._soon() if avoid else await self._known(fresh=False)
        left_out = set(avoid) - self._suspects.again(records) - _shrunk(records, before)
        left_out |= self._suspects.among(records, self._connections.heard_at)
        try:
            return self._plan(records, session, left_out, before)
        except NoDonor:
            records = await self._known(fresh=True)
            left_out = set(avoid) - self._suspects.again(records) - _shrunk(records, before)
            return self._plan(records, session, left_out, before)

    async def way_over(
        self,
        records: Collection[Record],
        session: int,
        avoid: Collection[PeerId],
        before: Route | None,
    ) -> Way:
        """The same over these records and no others."""
        left_out = set(avoid) | self._suspects.among(records, self._connections.heard_at)
        try:
            return self._plan(records, session, left_out, before)
        except NoDonor:
            return self._plan(records, session, avoid, before)

    def trouble(self, trouble: Trouble) -> None:
        """Something went wrong, which later plans go around."""
        if isinstance(trouble, Failed):
            self.experience.failed(trouble.peer, heals=trouble.heals)
        else:
            self._suspects.cannot_dial(trouble.one, trouble.other)

    async def _soon(self) -> tuple[Record, ...]:
        """The records, read now if that takes no longer than a moment: an answer stands still meanwhile, and
        who is lost is left out anyway. What is read later is known next time."""
        reading = self._reading
        if reading is None or reading.done():
            reading = self._reading = asyncio.create_task(self._known(fresh=True))
        done, _ = await asyncio.wait({reading}, timeout=READ_SECONDS if self._watcher.records else None)
        return reading.result() if done else self._watcher.records

    async def _known(self, *, fresh: bool) -> tuple[Record, ...]:
        """The records, read now if ``fresh``; where the directory does not answer, those known before."""
        try:
            return await self.records(fresh=fresh)
        except SwarmError as error:
            log.info("planning over the records known before: %s", error)
            return self._watcher.records

    def _plan(
        self, records: Collection[Record], session: int, avoid: Collection[PeerId], before: Route | None
    ) -> Way:
        records = [self._as_own(record) for record in self.experience.seen.believed(records)]
        layers, row_bytes = self._model.layers, self._row_bytes(records)
        delays = self._delays(records)
        readers = self._readers(session)
        warm = self._standbys.get(session, frozenset())

        def load(record: Record) -> float:
            peer = record.peer_id
            rank = self.experience.rank(peer) * (WARM if peer in warm else 1.0)
            return loaded(record, readers[peer]) * rank

        def mended(route: Route, without: Collection[PeerId]) -> Route | None:
            with suppress(NoDonor):
                return mend(
                    route,
                    records,
                    layers,
                    delay=delays,
                    row_bytes=row_bytes,
                    load=load,
                    avoid=without,
                    chance=random.Random(session),
                )
            return None

        route = mended(before, avoid) if before is not None else None
        if route is None:
            route = plan(
                records,
                layers,
                delay=delays,
                row_bytes=row_bytes,
                load=load,
                avoid=avoid,
                chance=random.Random(session),
            )
        self._answering[session] = route
        standbys = {}
        for index, stage in enumerate(route.stages):
            other = mended(route, {*avoid, stage.peer_id})
            if other is not None:
                standbys[index] = other.stages[index].peer_id
        self._standbys[session] = frozenset(standbys.values())
        return self._with_proofs(route, records, standbys)

    def _as_own(self, record: Record) -> Record:
        return replace(record, state=DonorState.ONLINE) if record.peer_id == self.own else record

    def _with_proofs(self, route: Route, records: Collection[Record], standbys: dict[int, PeerId]) -> Way:
        used = {stage.peer_id for stage in route.stages} | set(standbys.values())
        chosen = {r.peer_id: r for r in records if r.peer_id in used and r.state is DonorState.ONLINE}
        self._suspects.relied_on(chosen.values())
        sealed = {peer: self._peer.directory.sealed(record) for peer, record in chosen.items()}
        narrow = sends_slowly(route, chosen, self._row_bytes(chosen.values()))
        return Way(route, chosen, sealed, standbys, narrow)

    def _delays(self, records: Collection[Record]) -> Delay:
        """Between donors; a pair that cannot dial is farther apart than any that can."""
        known, apart = Delays(records, self._connections.round_trips), self._suspects.apart(records)
        if not apart:
            return known
        return lambda one, other: known(one, other) + (APART if (one, other) in apart else 0.0)

    def _row_bytes(self, records: Collection[Record]) -> int:
        return bytes_a_row(records, self._hidden)

    def _readers(self, session: int) -> Counter[PeerId]:
        """This client's other sessions that are answering, by donor."""
        routes = [route for number, route in self._answering.items() if number != session]
        return Counter(stage.peer_id for route in routes for stage in route.stages)


def bytes_a_row(records: Collection[Record], hidden: int) -> int:
    """Of a token's activations, in the dtype that these donors would speak."""
    wide = all(record.wire[:1] == (WireDtype.FLOAT32,) for record in records)
    return hidden * (4 if wide else 2)


def sends_slowly(route: Route, records: Mapping[PeerId, Record], row_bytes: int) -> bool:
    """Whether a prompt over this route is bound by a slow upload, and all its donors take int8. Its chunks
    flow one behind the other, so its time is that of the slowest: sending a row over a link whose upload was
    measured, or running one."""
    if any(WireDtype.INT8 not in records[stage.peer_id].wire for stage in route.stages):
        return False
    sending = [
        row_bytes / records[stage.peer_id].upload_rate
        for stage in route.stages[:-1]
        if records[stage.peer_id].upload_rate
    ]
    running = [
        len(stage.span) / len(record.span) / record.prefill_rate
        for stage in route.stages
        if (record := records[stage.peer_id]).prefill_rate
    ]
    return max(sending, default=0.0) > SLOW_TIMES * max(running, default=math.inf)


def loaded(record: Record, ours: int) -> float:
    """How many times slower a donor is taken to be; ``ours`` of this client's sessions use it now, some
    of which its record may count."""
    crowded = CROWDED if record.free_tokens < CROWDED_TOKENS else 0.0
    return 1 + READER * max(record.readers, ours) + crowded


def _shrunk(records: Collection[Record], before: Route | None) -> set[PeerId]:
    """Who holds its stage of the route no longer, but other layers: it was left for what it dropped, and
    nothing is wrong with what it kept."""
    stages = before.stages if before is not None else ()
    held = {record.peer_id: record.span for record in records if record.state is DonorState.ONLINE}
    return {
        stage.peer_id for stage in stages if stage.peer_id in held and stage.span not in held[stage.peer_id]
    }
