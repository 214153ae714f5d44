"""Where a peer lies in a map of delays: round trips predicted between peers that never measured them.

Vivaldi with heights (Dabek, Cox, Kaashoek and Morris, "Vivaldi: A Decentralized Network Coordinate
System", SIGCOMM 2004, sections 2.5, 3.4 and 5.4): a peer is a point in three dimensions, seconds
each, on a height, its way to the internet's core. The round trip of two is their distance plus both
heights. Each measurement pulls the peer that made it a little, more where the other is surer.

Pure. Others' coordinates are claims: they are clamped as they are read, and no measurement moves a
peer by more than ``LARGEST_MOVE``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

DIMENSIONS = 3
FARTHEST = 2.0
"""Seconds: no part of a coordinate, and no measured round trip that counts, is larger."""
LEAST_HEIGHT = 1e-5
LEAST_ERROR = 0.02
"""Nobody is believed to be surer of where it lies."""
ERROR_GAIN = 0.25
"""c_e of the paper: how fast the error follows what is measured,"""
MOVE_GAIN = 0.25
"""and c_c: the largest share of a misfit that one measurement mends."""
LARGEST_MOVE = 0.1
NEAR = 1e-6
"""Points closer than this lie on each other: chance decides in which direction they part."""

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Coordinate:
    """``place`` and ``height`` in seconds of round trip; ``error`` is relative, 1 where nothing is known."""

    place: Vector = (0.0,) * DIMENSIONS
    height: float = LEAST_HEIGHT
    error: float = 1.0

    @property
    def fields(self) -> tuple[float, ...]:
        """As a record carries it, next to ``error``: microseconds are precise enough."""
        return tuple(round(value, 6) for value in (*self.place, self.height))


def read(fields: Sequence[float], error: float) -> Coordinate | None:
    """What a record claims, within limits; ``None`` for what makes no coordinate."""
    if len(fields) != DIMENSIONS + 1 or not all(map(math.isfinite, (*fields, error))):
        return None
    place = tuple(_clamp(value, -FARTHEST, FARTHEST) for value in fields[:DIMENSIONS])
    return Coordinate(place, _clamp(fields[-1], LEAST_HEIGHT, FARTHEST), _clamp(error, LEAST_ERROR, 1.0))


def round_trip(one: Coordinate, other: Coordinate) -> float:
    """Predicted seconds there and back."""
    return min(math.dist(one.place, other.place) + one.height + other.height, FARTHEST)


def moved(mine: Coordinate, theirs: Coordinate, measured: float, chance: random.Random) -> Coordinate:
    """Where this peer lies after it measured ``measured`` seconds there and back to ``theirs``; it stays
    for what is no measurement."""
    if not math.isfinite(measured) or measured <= 0:
        return mine
    measured = min(measured, FARTHEST)
    misfit = measured - round_trip(mine, theirs)
    weight = mine.error / (mine.error + theirs.error)
    wrong = min(abs(misfit) / measured, 1.0)
    gain = ERROR_GAIN * weight
    error = _clamp(wrong * gain + mine.error * (1 - gain), LEAST_ERROR, 1.0)
    push = _clamp(MOVE_GAIN * weight * misfit, -LARGEST_MOVE, LARGEST_MOVE)
    return _pushed(mine, theirs, push, error, chance)


def _pushed(
    mine: Coordinate, theirs: Coordinate, push: float, error: float, chance: random.Random
) -> Coordinate:
    """Moves along the way between the two, whose length is the distance and both heights: place and
    height each take their share of the push."""
    apart = math.dist(mine.place, theirs.place)
    heights = mine.height + theirs.height
    share = apart / (apart + heights)
    if apart < NEAR:
        direction, share = _somewhere(chance), 0.5
    else:
        direction = tuple((a - b) / apart for a, b in zip(mine.place, theirs.place, strict=True))
    place = tuple(
        _clamp(at + push * share * step, -FARTHEST, FARTHEST)
        for at, step in zip(mine.place, direction, strict=True)
    )
    height = _clamp(mine.height + push * (1 - share), LEAST_HEIGHT, FARTHEST)
    return Coordinate(place, height, error)


def _somewhere(chance: random.Random) -> Vector:
    """A direction, all alike likely."""
    while True:
        vector = tuple(chance.gauss(0, 1) for _ in range(DIMENSIONS))
        length = math.hypot(*vector)
        if length > NEAR:
            return tuple(value / length for value in vector)


def _clamp(value: float, least: float, most: float) -> float:
    return max(least, min(most, value))
