"""Over whom a reader should read to learn most, and a swarm in which the way leads over that donor. Pure.

Readers take the best routes, so they never meet a donor that others can do without, and go on to believe
whatever it says: one that announces layers and serves nothing keeps everyone else away from them. So trials
(``core.node.trial``) go over whom this reader knows least.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection

from core.routing.seen import Seen
from core.swarm.records import without
from core.terms import DonorState, PeerId, Record


def least_known(
    records: Collection[Record], seen: Seen, own: Collection[PeerId], chance: random.Random
) -> Record | None:
    """Of the donors that serve, but ``own``: first one that failed and may yet have had bad luck, then
    whoever was never met, or longest ago. None where there is none."""

    def order(one: Record) -> tuple[object, ...]:
        return not seen.in_doubt(one.peer_id), seen.met_at(one.peer_id), chance.random()

    return min(_others(records, own), key=order, default=None)


def unknown(records: Collection[Record], seen: Seen, own: Collection[PeerId]) -> bool:
    """Whether there is a donor that this reader never met, or is not sure of."""
    return any(
        seen.met_at(one.peer_id) == -math.inf or seen.in_doubt(one.peer_id) for one in _others(records, own)
    )


def leading_over(one: Record, records: Collection[Record], chance: random.Random) -> list[Record]:
    """The same swarm, where nobody but ``one`` holds one of its layers. A single one, by chance: its others
    may be read over whoever is best, so that there is a route in a small swarm too."""
    layer = chance.randrange(one.span.start, one.span.end)
    cut = (other if other.peer_id == one.peer_id else without(other, {layer}) for other in records)
    return [other for other in cut if other is not None]


def _others(records: Collection[Record], own: Collection[PeerId]) -> list[Record]:
    return [one for one in records if one.state is DonorState.ONLINE and one.peer_id not in own]
