"""Coordinates: planted maps are found again, and no claim or measurement does harm."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.swarm.coordinates import (
    FARTHEST,
    LARGEST_MOVE,
    LEAST_ERROR,
    Coordinate,
    moved,
    read,
    round_trip,
)

anything = st.floats(allow_nan=True, allow_infinity=True)


def planted(chance: random.Random, peers: int) -> list[Coordinate]:
    """A map of a continent: up to some 120 ms across, last miles of 1 to 15 ms."""
    return [
        Coordinate(tuple(chance.uniform(-0.035, 0.035) for _ in range(3)), chance.uniform(0.001, 0.015))
        for _ in range(peers)
    ]


def found(real: list[Coordinate], chance: random.Random, rounds: int, lies: int = 0) -> list[Coordinate]:
    """What honest peers believe after each has measured a random other so many times; the last ``lies``
    claim to lie anywhere, surely."""
    believed = [Coordinate() for _ in real]
    for _ in range(rounds):
        for me in range(len(real) - lies):
            other = chance.choice([peer for peer in range(len(real)) if peer != me])
            claim = believed[other]
            if other >= len(real) - lies:
                claim = Coordinate(tuple(chance.uniform(-FARTHEST, FARTHEST) for _ in range(3)), error=0.0)
                claim = read(claim.fields, claim.error) or claim
            believed[me] = moved(believed[me], claim, round_trip(real[me], real[other]), chance)
    return believed


def misses(real: list[Coordinate], believed: list[Coordinate], peers: int) -> list[float]:
    """Relative errors of all pairs of the first ``peers``."""
    pairs = [(a, b) for a in range(peers) for b in range(a)]
    true = [round_trip(real[a], real[b]) for a, b in pairs]
    told = [round_trip(believed[a], believed[b]) for a, b in pairs]
    return [abs(one - other) / other for one, other in zip(told, true, strict=True)]


@given(st.integers(0, 1 << 32))
def test_a_planted_map_is_found_again(seed: int) -> None:
    """A few dozen measurements a peer tell the round trips of pairs that never measured each other."""
    chance = random.Random(seed)
    real = planted(chance, 12)
    wrong = misses(real, found(real, chance, 80), 12)
    assert statistics.median(wrong) < 0.3
    assert statistics.mean(wrong) < 0.5


def test_a_peer_grows_surer_as_it_measures() -> None:
    """The error that it announces is about the error that it makes."""
    chance = random.Random(3)
    real = planted(chance, 12)
    believed = found(real, chance, 150)
    assert all(LEAST_ERROR <= peer.error < 0.3 for peer in believed)


def test_one_liar_among_many_blurs_the_map_and_no_more() -> None:
    """It claims to lie anywhere at all, and to be sure of that."""
    chance = random.Random(7)
    real = planted(chance, 12)
    wrong = misses(real, found(real, chance, 200, lies=1), 11)
    assert statistics.median(wrong) < 1.0


@given(
    st.lists(anything, min_size=4, max_size=4),
    anything,
    st.lists(anything, min_size=4, max_size=4),
    anything,
    anything,
)
def test_whatever_is_claimed_or_measured_the_map_stays_finite(
    mine: list[float], my_error: float, theirs: list[float], error: float, measured: float
) -> None:
    """One step moves a peer a little at most, and every prediction is within bounds."""
    here, there = read(mine, my_error), read(theirs, error)
    if here is None or there is None:
        return
    after = moved(here, there, measured, random.Random(1))
    assert read(after.fields, after.error) is not None
    assert math.dist(after.place, here.place) <= LARGEST_MOVE + 1e-9
    assert abs(after.height - here.height) <= LARGEST_MOVE + 1e-9
    assert 0 < round_trip(after, there) <= FARTHEST


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ((), 1.0),
        ((1.0, 2.0), 0.1),
        ((0.0,) * 5, 0.1),
        ((0.0, 0.0, math.nan, 0.0), 0.1),
        ((0.0,) * 4, math.inf),
    ],
    ids=["none", "few", "many", "nan", "infinite"],
)
def test_what_makes_no_coordinate_is_none(fields: tuple[float, ...], error: float) -> None:
    """A record without one, or of another version, places its donor nowhere."""
    assert read(fields, error) is None


def test_claims_are_clamped() -> None:
    """Nobody lies on the moon, or knows everything."""
    claimed = read((1e9, -1e9, 0.0, -5.0), 0.0)
    assert claimed is not None
    assert claimed.place == (FARTHEST, -FARTHEST, 0.0)
    assert claimed.height > 0
    assert claimed.error == LEAST_ERROR
