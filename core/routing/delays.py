"""Delays between donors, as a reader can know them. Pure.

Best is what the two have measured themselves and told in their records; of two that differ the larger
counts, so nobody alone can make itself near. Then their coordinates. What this reader has measured
bounds both: the ways from here to one and to the other differ by no more than the way between them, and that
is hardly longer than the way round by here. So what two donors measured of each other while they were busy
starting, several times what it is, is not believed where both are near.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core.swarm import coordinates
from core.swarm.coordinates import FARTHEST, Coordinate
from core.terms import NEAR_NAME, PeerId, Record

UNKNOWN_SECONDS = 0.05
"""Assumed of a round trip that nothing is known of."""
DETOUR = 2.0
"""The internet's ways between two PCs may be so many times as long as a way round by a third."""


class Delays:
    """Called with two peers: seconds one way between them. ``measured`` holds this reader's own round
    trips, in seconds."""

    def __init__(self, records: Iterable[Record], measured: Mapping[PeerId, float]) -> None:
        self._measured = measured
        self._places: dict[PeerId, Coordinate] = {}
        self._told: dict[PeerId, dict[str, float]] = {}
        for record in records:
            place = coordinates.read(record.coordinate, record.coordinate_error)
            if place is not None:
                self._places[record.peer_id] = place
            self._told[record.peer_id] = dict(record.near)

    def __call__(self, one: PeerId, other: PeerId) -> float:
        return 0.0 if one == other else self._round_trip(one, other) / 2

    def _round_trip(self, one: PeerId, other: PeerId) -> float:
        here, there = self._measured.get(one), self._measured.get(other)
        least = abs(here - there) if here is not None and there is not None else 0.0
        round_by_here = here + there if here is not None and there is not None else FARTHEST
        claimed = self._claimed(one, other)
        if claimed is None:
            claimed = min(UNKNOWN_SECONDS, round_by_here)
        return min(max(min(claimed, DETOUR * round_by_here), least), FARTHEST)

    def _claimed(self, one: PeerId, other: PeerId) -> float | None:
        told = [
            self._told.get(teller, {}).get(about[-NEAR_NAME:])
            for teller, about in ((one, other), (other, one))
        ]
        known = [seconds for seconds in told if seconds is not None]
        if known:
            return max(known)
        here, there = self._places.get(one), self._places.get(other)
        return coordinates.round_trip(here, there) if here is not None and there is not None else None
