"""Where all donors of a small swarm would go together. Pure, and the same for everyone who asks.

In a swarm of few donors single moves get stuck: whoever alone holds a layer cannot go, and the model stays
broken beside donors enough. So each computes, from the same records, the same placement of all. It is a
sweep from the first layer to the last: at ``rate`` steps a second a donor that stands here does so many
layers' work, or as many as it holds, and the next one stands where that ends. Who already stands where it
is wanted stays there.

A swarm carries T steps a second if, layer by layer, those who hold it have T times its weight of work left,
whoever has to stop first being used first. That is exact where spans are intervals: an interval schedule.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, product

from core.terms import PeerId, Span

ENOUGH = 0.97
"""A placement that carries this part of the best one found may be taken instead, for the moves it saves."""
ORDERS = 40
"""Orders by chance that are tried for the best one; the chance is the same everywhere."""
CHOICES = 10_000
"""Choices of how many donors of each kind that are looked at where no order was found."""
HALVINGS = 20
EPSILON = 1e-9


@dataclass(frozen=True)
class Member:
    """One donor: the longest spans that it may hold, its work a second (steps × weight), and its place."""

    name: PeerId
    ends: tuple[int, ...]
    work: float
    at: Span | None = None

    def span(self, start: int) -> Span | None:
        """The longest that it may hold from ``start`` on; before it, what fits besides."""
        end = self.ends[start]
        if end <= start:
            return None
        while start > 0 and self.ends[start - 1] == end:
            start -= 1
        return Span(start, end)


@dataclass(frozen=True)
class Joint:
    """A place for each member, in their order: ``None`` where it is not needed and has none. ``rate`` is
    what it carries by the sweep, 0 where no placement was found that holds the whole model."""

    spans: tuple[Span | None, ...]
    rate: float


def carries(held: Iterable[tuple[Span, float]], weights: Sequence[float]) -> float:
    """Steps a second that these spans with their work a second carry together, readers sharing it out as
    well as it can be."""
    by_start = sorted(held, key=lambda one: one[0].start)
    highest = sum(work for _, work in by_start) / sum(weights)
    low, high = 0.0, highest
    if not _does(by_start, weights, EPSILON * highest) or highest <= 0:
        return 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _does(by_start, weights, middle) else (low, middle)
    return low


def _does(by_start: Sequence[tuple[Span, float]], weights: Sequence[float], rate: float) -> bool:
    able: list[tuple[int, float]] = []
    waiting, following = len(by_start), 0
    for layer, weight in enumerate(weights):
        while following < waiting and by_start[following][0].start <= layer:
            span, work = by_start[following]
            heapq.heappush(able, (span.end, work))
            following += 1
        need = rate * weight
        while need > EPSILON * rate * weight:
            while able and able[0][0] <= layer:
                heapq.heappop(able)
            if not able:
                return False
            end, work = able[0]
            used = min(work, need)
            need -= used
            if work - used > EPSILON * work:
                heapq.heapreplace(able, (end, work - used))
            else:
                heapq.heappop(able)
    return True


@lru_cache(maxsize=64)
def together(members: tuple[Member, ...], weights: tuple[float, ...]) -> Joint:
    """The placement that all would take. ``members`` in an order that everyone would give them in."""
    layers = _Layers(weights)
    best, found = 0.0, None
    for order in _orders(members):
        rate = _fastest(order, layers, best)
        if rate > best:
            best, found = rate, order
    if found is None and (found := _farthest(members, len(weights))):
        best = _fastest(found, layers, 0.0)
    if found is None or best <= 0:
        return Joint(tuple(member.at for member in members), 0.0)
    rate = ENOUGH * best
    cheapest: tuple[int, tuple[Span | None, ...]] | None = None
    for loose in (len(weights), 4, 2, 1, 0):
        places = _around(members, layers, rate, loose)
        if places is not None and (cheapest is None or _moved(members, places) < cheapest[0]):
            cheapest = _moved(members, places), places
    if cheapest is None or cheapest[0] > _moved(members, _repacked(members, found, layers, rate)):
        return Joint(_repacked(members, found, layers, rate), rate)
    return Joint(cheapest[1], rate)


class _Layers:
    """Places on the line of all layers, measured in weight."""

    def __init__(self, weights: Sequence[float]) -> None:
        self.upto = [0.0, *accumulate(weights)]
        self.end = self.upto[-1] * (1 - EPSILON)

    def at(self, place: float) -> int:
        return min(bisect_right(self.upto, place * (1 + EPSILON)) - 1, len(self.upto) - 2)


def _orders(members: Sequence[Member]) -> Iterator[list[Member]]:
    placed = sorted(members, key=lambda one: (one.at is None, one.at or Span(0, 1), one.name))
    yield placed
    by_size = sorted(members, key=lambda one: (max(_lengths(one)), one.work, one.name))
    yield by_size
    yield by_size[::-1]
    chance = random.Random(len(members))
    for _ in range(ORDERS):
        yield chance.sample(by_size, len(by_size))


def _farthest(members: Sequence[Member], layers: int) -> list[Member]:
    """An order in which donors that barely suffice hold all layers; empty where there is none. For each
    choice of how many of each kind, the farthest that they reach from the first layer without a gap."""
    kinds: dict[tuple[int, ...], list[Member]] = {}
    for member in members:
        kinds.setdefault(member.ends, []).append(member)
    if math.prod(len(found) + 1 for found in kinds.values()) > CHOICES:
        return []
    reached: dict[tuple[int, ...], tuple[int, int]] = {}
    for used in product(*(range(len(found) + 1) for found in kinds.values())):
        best = 0, -1
        for kind, ends in enumerate(kinds):
            if used[kind]:
                before = reached[(*used[:kind], used[kind] - 1, *used[kind + 1 :])][0]
                best = max(best, (ends[before] if before < layers else layers, kind))
        reached[used] = best
        if best[0] >= layers:
            return _way_to(used, reached, list(kinds.values()))
    return []


def _way_to(
    used: tuple[int, ...], reached: dict[tuple[int, ...], tuple[int, int]], kinds: Sequence[list[Member]]
) -> list[Member]:
    order: list[Member] = []
    while any(used):
        kind = reached[used][1]
        order.append(kinds[kind][used[kind] - 1])
        used = (*used[:kind], used[kind] - 1, *used[kind + 1 :])
    return order[::-1]


def _lengths(member: Member) -> list[int]:
    return [end - start for start, end in enumerate(member.ends)]


def _fastest(order: Sequence[Member], layers: _Layers, least: float) -> float:
    """The most steps a second that a sweep in this order reaches, if it is more than ``least``."""
    low, high = least * 1.005, sum(member.work for member in order) / layers.upto[-1]
    if high <= 0 or not _sweep(order, layers, max(low, EPSILON * high)):
        return 0.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if _sweep(order, layers, middle) else (low, middle)
    return low


def _sweep(order: Sequence[Member], layers: _Layers, rate: float) -> dict[PeerId, Span] | None:
    """Everyone in turn where the one before ends."""
    place, found = 0.0, {}
    for member in order:
        span = member.span(layers.at(place))
        if span is not None:
            found[member.name] = span
            place = min(layers.upto[span.end], place + member.work / rate)
            if place >= layers.end:
                return found
    return None


def _repacked(
    members: Sequence[Member], order: Sequence[Member], layers: _Layers, rate: float
) -> tuple[Span | None, ...]:
    found = _sweep(order, layers, rate) or {}
    return tuple(found.get(member.name, member.at) for member in members)


def _around(
    members: Sequence[Member], layers: _Layers, rate: float, loose: int
) -> tuple[Span | None, ...] | None:
    """A sweep that leaves everyone who stands well: within ``loose`` layers of the farthest end that it
    could reach from here. Gaps are filled by those who are not needed where they are."""
    waiting = sorted(members, key=lambda one: (one.at or Span(0, 1), one.name))
    found: dict[PeerId, Span] = {}
    place = 0.0
    while place < layers.end:
        here = layers.at(place)
        options = [
            (member, span) for member in waiting if (span := _stays(member, place, layers, rate, loose))
        ]
        if options:
            member, span = min(options, key=lambda one: (one[1].end, one[0].name))
        else:
            free = [member for member in waiting if member.span(here) is not None]
            if not free:
                return None
            member = min(free, key=lambda one: _reluctance(one, here, waiting))
            span = member.span(here) or Span(here, here + 1)
        waiting.remove(member)
        found[member.name] = span
        place = min(layers.upto[span.end], place + member.work / rate)
    return tuple(found.get(member.name, member.at) for member in members)


def _stays(member: Member, place: float, layers: _Layers, rate: float, loose: int) -> Span | None:
    at, here = member.at, layers.at(place)
    if at is None or here not in at:
        return None
    wanted = layers.at(min(layers.upto[member.ends[here]], place + member.work / rate) * (1 - EPSILON))
    return at if at.end > here and at.end + loose > wanted else None


def _reluctance(member: Member, here: int, waiting: Sequence[Member]) -> tuple[object, ...]:
    """Who is passed by, or nowhere, goes first: the one that reaches farthest without going over the next
    one that stands. Then the nearest."""
    at = member.at
    if at is None or at.end <= here:
        ahead = [one.at.start for one in waiting if one.at is not None and one.at.start > here]
        over = max(0, member.ends[here] - min(ahead, default=len(member.ends)))
        return 0, over, -member.ends[here], member.name
    return 1, at.start, -member.ends[here], member.name


def _moved(members: Sequence[Member], places: Sequence[Span | None]) -> int:
    """Layers that somebody would have to fetch."""
    return sum(
        sum(layer not in member.at for layer in range(span.start, span.end))
        for member, span in zip(members, places, strict=True)
        if span is not None and member.at is not None and span != member.at
    )
