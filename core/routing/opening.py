"""A way for a session, and its opening: every stage is asked at once, and each answers for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from core.errors import Refused, StageLost, SwarmError
from core.ring.client import Client
from core.routing.connections import Connection, Connections
from core.routing.watch import Watch
from core.swarm.messages import Open, Refuse
from core.terms import PeerId, Record, Route, WireDtype

OPEN_SECONDS = 3.0
"""Beyond eight round trips, what opening all stages may take."""
OVERSLEPT_SECONDS = 0.1
UNANSWERED = "it did not answer in time"


@dataclass(frozen=True)
class Way:
    """A route with what is needed to open it: records of its donors, sealed ones too."""

    route: Route
    records: dict[PeerId, Record]
    sealed: dict[PeerId, bytes]
    standbys: dict[int, PeerId] = field(default_factory=dict)
    """By a stage's index, who would replace it; their records are among the others."""
    narrow: bool = False
    """A prompt would spend most of its time on slow links: better send it in int8 blocks."""


Planner = Callable[[frozenset[PeerId], Route | None], Awaitable[Way]]
"""Finds a way around the given peers, changing as little as it can of a route that was open; raises
``NoDonor``."""


@dataclass(frozen=True)
class Failed:
    """A donor was lost. ``heals``: hearing of it again shows that it is well, since its silence was all that
    spoke against it."""

    peer: PeerId
    heals: bool = True


@dataclass(frozen=True)
class Undialable:
    """``one`` could not reach ``other``, which both are there."""

    one: PeerId
    other: PeerId


Trouble = Failed | Undialable
Report = Callable[[Trouble], None]
"""Told of what went wrong, so that the next plan knows."""


@dataclass(frozen=True)
class Source:
    """Another session of this client that holds the same first ``shared`` tokens, and the count of its turns
    when it did."""

    session: bytes
    rollback: int
    shared: int


class CannotDial(Refused):
    """A stage cannot reach the next: neither need be at fault. ``lasting``: it could not dial it, which is
    worth remembering; a silence may be over soon."""

    def __init__(self, one: PeerId, other: PeerId, why: str, *, lasting: bool = True) -> None:
        super().__init__(other, "unreachable", why)
        self.pair, self.lasting = Undialable(one, other), lasting


async def connect_all(connections: Connections, way: Way, report: Report) -> list[Connection]:
    """To all stages at once. Of several that are lost, all but one are reported; that one is raised."""
    records = [way.records[stage.peer_id] for stage in way.route.stages]
    connecting = (connect(connections, record) for record in records)
    found = await asyncio.gather(*connecting, return_exceptions=True)
    errors = [one for one in found if isinstance(one, BaseException)]
    for error in errors[1:]:
        if isinstance(error, StageLost):
            report(Failed(error.peer_id))
    if errors:
        raise errors[0]
    return [one for one in found if isinstance(one, Connection)]


async def connect(connections: Connections, record: Record) -> Connection:
    """Raises ``StageLost``."""
    try:
        return await connections.to(record.peer_id, record.addresses)
    except SwarmError as error:
        raise StageLost(record.peer_id, error.message) from error


class Opening:
    """One try to open a route over ``lines``: done when all stages are ready, or one of them is not to be."""

    def __init__(self, route: Route, lines: Sequence[Connection], watch: Watch, report: Report) -> None:
        self._route, self._lines, self._watch, self._report = route, tuple(lines), watch, report
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self, seconds: float, client: Client) -> None:
        """Raises ``Refused`` or ``StageLost``: at once for what a stage says, when an answer is overdue for
        one that says nothing at all, and after ``seconds`` where all are there but not ready."""
        asked = time.monotonic()
        for line in set(self._lines):
            line.ask()
        while True:
            dues = [asked + due for due in self._dues(asked).values()]
            until = min([*dues, asked + seconds])
            done, _ = await asyncio.wait({self._done}, timeout=max(0.0, until - time.monotonic()))
            if done:
                self._done.result()
                return
            now = time.monotonic()
            if now - until > OVERSLEPT_SECONDS:  # what could not be heard meanwhile was no silence
                asked += now - until
                await asyncio.sleep(0)
                continue
            self._judge(asked, now)
            if now >= asked + seconds:
                raise self._not_ready(client)

    def _dues(self, asked: float) -> dict[PeerId, float]:
        """Of those not heard since they were asked, within how many seconds they must be. Where that is
        nobody, it may be this reader's own network: they get twice the time."""
        silent = {line.remote: line for line in self._lines if line.heard_at < asked}
        times = 2 if len(silent) == len({line.remote for line in self._lines}) > 1 else 1
        return {peer: times * self._watch.due(line) for peer, line in silent.items()}

    def _judge(self, asked: float, now: float) -> None:
        """Raises ``StageLost`` where an answer is overdue; reports the others that it is of."""
        lost = [peer for peer, due in self._dues(asked).items() if now >= asked + due]
        if lost:
            self._watch.blamed()
            for other in lost[1:]:
                self._report(Failed(other))
            raise StageLost(lost[0], UNANSWERED)

    def _not_ready(self, client: Client) -> CannotDial:
        """All are there: who is not ready waits for its stream to the next, and that may be no fault of
        either."""
        stages = self._route.stages
        late = [index for index in range(len(stages)) if index not in client.ready_stages]
        one = (late or [0])[0]
        other = stages[(one + 1) % len(stages)].peer_id
        return CannotDial(stages[one].peer_id, other, UNANSWERED, lasting=False)

    @property
    def is_done(self) -> bool:
        return self._done.done()

    def ready(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def refused(self, remote: PeerId, message: Refuse) -> None:
        following = self._route.stages[(message.stage + 1) % len(self._route.stages)].peer_id
        if message.kind in {"unreachable", "silent"}:
            lasting = message.kind == "unreachable"
            self._fail(CannotDial(remote, following, message.why, lasting=lasting))
        else:
            self._fail(Refused(remote, message.kind, message.why))

    def lost(self, remote: PeerId, why: str) -> None:
        self._fail(StageLost(remote, why))

    def _fail(self, error: Refused | StageLost) -> None:
        if not self._done.done():
            self._done.set_exception(error)


def open_message(
    way: Way,
    index: int,
    *,
    session: bytes,
    epoch: int,
    rollback: int,
    max_length: int,
    source: Source | None = None,
    narrow: bool = False,
    ahead: bool = False,
) -> Open:
    """What the stage of this index is asked to be."""
    stages = way.route.stages
    stage, following = stages[index], stages[(index + 1) % len(stages)].peer_id
    model = way.records[stage.peer_id].model
    return Open(
        session=session,
        epoch=epoch,
        rollback=rollback,
        stage=index,
        stages=len(stages),
        model_id=model.model_id,
        revision=model.revision,
        span=stage.span,
        wire=wire_of([way.records[s.peer_id] for s in stages]),
        max_length=max_length,
        previous=stages[index - 1].peer_id,
        following=b"" if following == stage.peer_id else way.sealed[following],
        source=source.session if source else b"",
        source_rollback=source.rollback if source else 0,
        shared=source.shared if source else 0,
        narrow=narrow,
        ahead=ahead,
    )


def wire_of(records: Sequence[Record]) -> WireDtype:
    """What the stages compute in, if that is one thing, else the smaller."""
    if all(record.wire[:1] == (WireDtype.FLOAT32,) for record in records):
        return WireDtype.FLOAT32
    return WireDtype.BFLOAT16
