"""Crowded bands of the directory split, and no key grows with the swarm."""

from __future__ import annotations

import random

import pytest

from core.swarm.crowd import FULL, SAMPLED, depth_after, key_of, sample, scale
from core.terms import PeerId


@pytest.mark.parametrize("donors", [10, 100, 1000, 10_000])
def test_no_key_grows_with_the_swarm(donors: int) -> None:
    """Each donor goes by what lies under its own key; a reader's sample stays bounded."""
    peers = [PeerId(f"peer {number}") for number in range(donors)]
    depth = 0
    for _ in range(20):
        found = sum(key_of(peer, depth) == key_of(peers[0], depth) for peer in peers)
        depth = depth_after(depth, found)
    keys = sample(depth, random.Random(1))
    read = sum(key_of(peer, depth) in keys for peer in peers)
    assert read <= 2 * FULL * SAMPLED
    assert read * scale(depth) == pytest.approx(donors, rel=0.35)


def test_keys_do_not_flap() -> None:
    """After a split a key is not joined again at once."""
    assert (depth_after(3, FULL + 1), depth_after(4, FULL // 2), depth_after(4, 5)) == (4, 4, 3)
