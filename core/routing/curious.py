"""Over whom a reader should read to learn most, and a swarm in which the way leads over that donor. Pure.

Readers take the best routes, so they never meet a donor that others can do without, and go on to believe
whatever it says: one that announces layers and serves nothing keeps everyone else away from them. So trials
(``core.node.trial``) go over whom this reader knows least.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass

from core.routing.route import missing
from core.routing.seen import Seen
from core.swarm.records import without
from core.terms import DonorState, PeerId, Record


@dataclass(frozen=True)
class Lead:
    """A donor to read over, and the swarm in which every route leads over it."""

    one: Record
    records: tuple[Record, ...]


def least_known(
    records: Collection[Record], seen: Seen, own: Collection[PeerId], chance: random.Random
) -> Lead | None:
    """Of the donors that serve, but ``own``: first one that failed and may yet have had bad luck, then
    whoever was never met, or longest ago. None where there is none that a route could lead over."""

    def order(one: Record) -> tuple[object, ...]:
        return not seen.in_doubt(one.peer_id), seen.met_at(one.peer_id), chance.random()

    others = sorted(_others(records, own), key=order)
    if not others or missing(records, others[0].model.layers):
        return None  # known without trying each: there may be thousands
    leads = (leading_over(one, records, chance) for one in others)
    return next((lead for lead in leads if lead is not None), None)


def unknown(records: Collection[Record], seen: Seen, own: Collection[PeerId], chance: random.Random) -> bool:
    """Whether there is a donor that this reader never met, or is not sure of, and could read over."""
    others = _others(records, own)
    if not others or missing(records, others[0].model.layers):
        return False
    return any(
        leading_over(one, records, chance) is not None
        for one in others
        if seen.met_at(one.peer_id) == -math.inf or seen.in_doubt(one.peer_id)
    )


def leading_over(one: Record, records: Collection[Record], chance: random.Random) -> Lead | None:
    """The same swarm, where nobody but ``one`` holds one of its layers. A single one, by chance, that leaves
    the model whole: its others may be read over whoever is best, so that there is a route in a small swarm
    too. None where there is no such layer: who holds what lies before and behind it holds it as well."""
    for layer in chance.sample(range(one.span.start, one.span.end), len(one.span)):
        cut = (other if other.peer_id == one.peer_id else without(other, {layer}) for other in records)
        left = tuple(other for other in cut if other is not None)
        if not missing(left, one.model.layers):
            return Lead(one, left)
    return None


def _others(records: Collection[Record], own: Collection[PeerId]) -> list[Record]:
    return [one for one in records if one.state is DonorState.ONLINE and one.peer_id not in own]
