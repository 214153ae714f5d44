"""What a reader of the directory sees of a key that has more entries than it holds. Pure."""

from __future__ import annotations

from functools import cache

from core.swarm.guard import FULLEST

REPLICAS = 5
"""Peers that hold each key, as hivemind has it; each keeps a sample of its own, and a reader asks all."""
MOST = 1 << 20
"""Entries that are reckoned with."""


def visible(entries: int) -> int:
    """Of so many entries under one key those that a reader finds, as expected: an entry is missed where it is
    in none of the samples."""
    return round(entries * (1 - (1 - min(1.0, FULLEST / max(entries, 1))) ** REPLICAS))


@cache
def part_seen(found: int) -> float:
    """The part of a key's entries that were found: 1 where the key is not full. ``visible`` the other way
    round; how many there are that far from full samples tell little of, and the part is small."""
    if found <= FULLEST:
        return 1.0
    least, most = found, MOST
    while least < most:
        middle = (least + most) // 2
        if visible(middle) < found:
            least = middle + 1
        else:
            most = middle
    return found / least
