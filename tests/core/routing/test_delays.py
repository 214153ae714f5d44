"""Which of several sources tells the delay between two donors."""

from __future__ import annotations

import pytest

from core.routing.delays import UNKNOWN_SECONDS, Delays
from core.swarm.coordinates import FARTHEST
from core.terms import DonorState, ModelRef, PeerId, Record, Span

A, B = PeerId("peer-aaaaaa"), PeerId("peer-bbbbbb")
FAR_APART = ((0.0, 0.0, 0.0, 0.01), (0.06, 0.0, 0.0, 0.03))  # 100 ms there and back


def donor(peer: PeerId, coordinate: tuple[float, ...] = (), near: dict[str, float] | None = None) -> Record:
    return Record(
        peer,
        ModelRef("m", "r", 10),
        Span(0, 10),
        DonorState.ONLINE,
        0.0,
        1e12,
        coordinate=coordinate,
        coordinate_error=0.1,
        near=tuple((near or {}).items()),
    )


@pytest.mark.parametrize(
    ("a", "b", "measured", "round_trip"),
    [
        (donor(A), donor(B), {}, UNKNOWN_SECONDS),
        (donor(A), donor(B), {A: 0.001, B: 0.002}, 0.003),
        (donor(A), donor(B), {A: 0.1, B: 0.2}, 0.1),
        (donor(A), donor(B), {A: 0.1}, UNKNOWN_SECONDS),
        (donor(A, FAR_APART[0]), donor(B, FAR_APART[1]), {}, 0.1),
        (donor(A, FAR_APART[0]), donor(B), {}, UNKNOWN_SECONDS),
        (donor(A, FAR_APART[0]), donor(B, FAR_APART[1]), {A: 0.01, B: 0.3}, 0.29),
        (donor(A, FAR_APART[0]), donor(B, FAR_APART[1]), {A: 0.06, B: 0.06}, 0.1),
        (donor(A, near={"bbbbbb": 0.09}), donor(B), {A: 0.001, B: 0.002}, 0.006),
        (donor(A, FAR_APART[0], {"bbbbbb": 0.02}), donor(B, FAR_APART[1]), {}, 0.02),
        (donor(A, near={"bbbbbb": 0.02}), donor(B, near={"aaaaaa": 0.08}), {}, 0.08),
        (donor(A, near={"bbbbbb": 0.0}), donor(B), {A: 0.01, B: 0.3}, 0.29),
        (donor(A, near={"bbbbbb": 6.0}), donor(B), {}, FARTHEST),
        (donor(A, (1e9, 0.0, 0.0, 0.0)), donor(B, (-1e9, 0.0, 0.0, 0.0)), {}, FARTHEST),
    ],
    ids=[
        "nothing",
        "both near here",
        "unlike far",
        "one alone",
        "coordinates",
        "one coordinate",
        "liars of nearness",
        "honest",
        "measured while starting",
        "told",
        "told differently",
        "told too near",
        "told too far",
        "absurd coordinates",
    ],
)
def test_what_was_measured_beats_what_is_claimed(
    a: Record, b: Record, measured: dict[PeerId, float], round_trip: float
) -> None:
    """In both directions alike."""
    delays = Delays([a, b], measured)
    assert delays(A, B) == pytest.approx(round_trip / 2)
    assert delays(B, A) == pytest.approx(round_trip / 2)


def test_a_peer_is_no_way_from_itself() -> None:
    """Two stages at one donor hand over in memory; and strangers without a record are unknown."""
    delays = Delays([], {})
    assert delays(A, A) == 0
    assert delays(A, B) == UNKNOWN_SECONDS / 2
