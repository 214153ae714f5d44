"""What a route's donors cost, by what their records tell: where the time of a token goes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from core.errors import NoDonor
from core.routing.delays import Delays
from core.routing.route import plan
from core.terms import NEAR_NAME, ModelRef, PeerId, Record, Route


@dataclass(frozen=True)
class Leg:
    """One stage: ``seconds`` of compute a token and ``hop`` to the next donor; ``None`` where nobody has
    measured. ``reach`` is how others reach it: public, dial-out or relay."""

    seconds: float | None
    hop: float | None
    reach: str


def legs(
    route: Route, records: Collection[Record], measured: Mapping[PeerId, float] | None = None
) -> tuple[Leg | None, ...]:
    """For each stage; ``None`` for a donor whose record is not known."""
    by_peer = {record.peer_id: record for record in records}
    delays = Delays(records, measured or {})
    found: list[Leg | None] = []
    for number, stage in enumerate(route.stages):
        record = by_peer.get(stage.peer_id)
        following = route.stages[(number + 1) % len(route.stages)].peer_id
        if record is None:
            found.append(None)
            continue
        seconds = record.step_seconds * len(stage.span) / len(record.span) or None
        other = by_peer.get(following)
        hop = delays(stage.peer_id, following) if other is not None and _measured(record, other) else None
        found.append(Leg(seconds, hop, record.reach))
    return tuple(found)


def _measured(one: Record, other: Record) -> bool:
    """Do they tell anything of the way between them?"""
    if one.peer_id == other.peer_id:
        return False
    told = {name for name, _ in one.near} | {name for name, _ in other.near}
    near = {one.peer_id[-NEAR_NAME:], other.peer_id[-NEAR_NAME:]}
    return bool(told & near) or bool(one.coordinate and other.coordinate)


def expected_rate(model: ModelRef, records: Collection[Record]) -> float | None:
    """Tokens a second of the best route there is, as the records promise it. ``None`` without one, and while
    its donors have not measured their speed or the ways between them: what routes assume until then is
    meant for choosing, and far from what a person would see."""
    try:
        route = plan(records, model.layers, delay=Delays(records, {}))
    except NoDonor:
        return None
    alone = len(route.stages) == 1
    for leg in legs(route, records):
        if leg is None or leg.seconds is None or (leg.hop is None and not alone):
            return None
    return 1 / route.predicted_seconds if route.predicted_seconds > 0 else None
