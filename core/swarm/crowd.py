"""How a crowded band of the directory splits, so that no key grows with the swarm. Pure.

A band's donors are dealt out over 2^depth keys by the first bits of a hash of their peer ids. Each donor
judges the depth by what it reads under its own key; readers read a few keys by chance and take what lies
there as a sample. Between two depths a donor keeps to the one it was at, so that the keys do not flap.
"""

from __future__ import annotations

import hashlib
import random

from core.terms import PeerId

FULL = 64
"""Records under one key above which it splits."""
SAMPLED = 4
"""Keys of one band that a reader reads."""
MAX_DEPTH = 20


def key_of(peer: PeerId, depth: int) -> int:
    """Which of a band's 2^depth keys holds this peer's record."""
    digest = hashlib.sha256(peer.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> (32 - depth) if depth else 0


def depth_after(depth: int, found: int) -> int:
    """The depth to announce at next, after ``found`` records were read under the own key at ``depth``.
    A key is left half full by a split, and joined with its neighbour only when a quarter full."""
    if found > FULL:
        return min(depth + 1, MAX_DEPTH)
    if depth and found < FULL // 4:
        return depth - 1
    return depth


def sample(depth: int, chance: random.Random) -> tuple[int, ...]:
    """The keys of a band to read: all while there are few, else some by chance."""
    count = 1 << depth
    return tuple(range(count)) if count <= SAMPLED else tuple(sorted(chance.sample(range(count), SAMPLED)))


def scale(depth: int) -> float:
    """How many donors of the band each one found under the sampled keys stands for."""
    return max(1.0, (1 << depth) / SAMPLED)
