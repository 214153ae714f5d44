"""What a reader sees of a key that is full."""

from __future__ import annotations

import random

import pytest

from core.swarm.crowded import REPLICAS, part_seen, visible
from core.swarm.guard import FULLEST


def test_a_key_that_is_not_full_is_seen_whole() -> None:
    """Every peer that holds it has all of it."""
    assert [part_seen(found) for found in (0, 1, FULLEST)] == [1.0] * 3
    assert visible(FULLEST) == FULLEST


@pytest.mark.parametrize("entries", [200, 500, 1500, 4000])
def test_how_many_there_are_is_told_from_how_many_were_found(entries: int) -> None:
    """Samples of the peers that hold a key overlap the less the more entries it has."""
    chance, parts = random.Random(entries), []
    for _ in range(20):
        samples = [chance.sample(range(entries), FULLEST) for _ in range(REPLICAS)]
        found = len({one for sample in samples for one in sample})
        assert abs(found - visible(entries)) < 40
        parts.append(part_seen(found))
    assert sum(parts) / len(parts) == pytest.approx(visible(entries) / entries, rel=0.1)


def test_more_than_fit_into_all_samples_are_a_small_part_of_many() -> None:
    """As found where records of other keys count for this one, too."""
    assert 0.0 < part_seen(REPLICAS * FULLEST + 100) < 0.01
