"""A swarm over hours, minute by minute: donors join, leave, crash and lie, and each looks at the records and
follows ``core.serving.choose``. Nobody sees more than the directory shows: records of the last minute, of
crowded bands a sample, and a crashed donor's record until it expires."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.placement.donors import LAYERS, Card, Peer, draw
from benchmarks.placement.optimum import even_use, throughput
from core.serving.choose import CROWD, LIKELY, PLAUSIBLE, STRANGER, Held, Levels, Why, choose, share
from core.swarm.crowd import FULL, SAMPLED
from core.swarm.records import BAND_LAYERS
from core.terms import Span

TICK = 60.0
EXPIRY = 90.0
FOUND_OUT = 600.0
"""Mean seconds until a donor that serves nothing is known: readers who try it lose trust in it."""
LOOK = 5
"""Minutes between a donor's looks at bands that it does not serve; where there is a hole, one."""
VIEWS = 12
"""Different samples of a crowded swarm that are dealt out among those who look in one minute."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Scenario:
    donors: int
    seed: int
    churn_hours: float
    liars: float = 0.05
    gather_minutes: float = 60.0
    settle_hours: float = 6.0
    together: bool = False
    """All come within one minute: the power is back."""


@dataclass
class Hole:
    since: float
    layers: int
    filled: float | None = None


@dataclass
class Outcome:
    """``settled`` and ``again`` are swarms at rest, before and after the churn, ``during`` while it goes on:
    each the throughput, that of even use, and the cards that are there."""

    settled: tuple[float, float, list[Card]] = (0.0, 0.0, [])
    again: tuple[float, float, list[Card]] = (0.0, 0.0, [])
    during: list[tuple[float, float, list[Card]]] = field(default_factory=list)
    chosen: list[float] = field(default_factory=list)
    """Seconds from a hole to the choice that fills it, where a donor that fits was there."""
    online: list[float] = field(default_factory=list)
    """Seconds from a hole to the layer's being served again."""
    moved_layers: int = 0
    moves: int = 0
    opened: int = 0
    """Layers that a move left without a donor: must stay 0."""
    churn_hours: float = 0.0
    peers: int = 0


class Swarm:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.chance = random.Random(scenario.seed)
        self.numbers = np.random.default_rng(scenario.seed)
        self.peers: list[Peer] = []
        self.gone: list[Peer] = []
        """Crashed, with a record that has not expired."""
        self.known: set[int] = set()
        """Liars that are found out."""
        self.now, self.next = 0.0, 0
        self.holes: dict[int, float] = {}
        self.out = Outcome()

    def run(self) -> Outcome:
        scenario, out = self.scenario, self.out
        minutes = 1.0 if scenario.together else scenario.gather_minutes
        while len(self.peers) < scenario.donors:
            self.join(min(math.ceil(scenario.donors / minutes), scenario.donors - len(self.peers)))
            self.tick()
        for _ in range(int(scenario.settle_hours * 60)):
            self.tick()
        out.settled = self.measure()
        out.moves = out.moved_layers = 0
        self.churn(scenario.churn_hours)
        for _ in range(int(scenario.settle_hours * 60)):
            self.tick()
        out.again = self.measure()
        return out

    def churn(self, hours: float) -> None:
        """As many come as go."""
        out, per_tick = self.out, self.scenario.donors * TICK / (8 * 3600.0)
        for peer in self.peers:
            peer.ends_at = self.now + self.chance.expovariate(1 / (8 * 3600.0))
        self.holes.clear()
        out.chosen.clear()
        out.online.clear()
        for minute in range(int(hours * 60)):
            for peer in [peer for peer in self.peers if peer.ends_at <= self.now]:
                self.peers.remove(peer)
                if peer.crashes:
                    peer.ends_at = self.now
                    self.gone.append(peer)
            self.join(int(self.numbers.poisson(per_tick)))
            self.tick()
            if minute % 60 == 59:
                out.during.append(self.measure())
        out.churn_hours, out.peers = hours, len(self.peers)
        for peer in self.peers:
            peer.ends_at = math.inf

    def join(self, count: int) -> None:
        for _ in range(count):
            peer = draw(self.next, self.now, self.chance, self.scenario.liars)
            peer.ends_at = peer.ends_at if self.out.churn_hours or self.out.settled[2] else math.inf
            self.next += 1
            self.peers.append(peer)

    def tick(self) -> None:
        """One minute: all who look see the records as they were at its start."""
        view = View(self)
        window = int(self.now // TICK)
        lots = self.numbers.random(len(self.peers))
        lots_of = view.deal(lots)
        before = [peer.span for peer in self.peers]
        for index, peer in enumerate(self.peers):
            looks = peer.span is None or view.has_hole or (peer.number + window) % LOOK == 0
            if looks and (peer.span is None or lots[index] < lots_of):
                self.decide(peer, view.levels(index), float(lots[index]))
        self.count_opened(before)
        self.note_holes()
        for peer in self.peers:
            if peer.lies == math.inf and self.chance.random() < TICK / FOUND_OUT:
                self.known.add(peer.number)
        self.gone = [peer for peer in self.gone if peer.ends_at + EXPIRY > self.now]
        self.now += TICK

    def decide(self, peer: Peer, seen: Levels, lot: float) -> None:
        stay = 8 * 3600.0
        choice = choose(seen, peer.hand(stay), lot, self.chance)
        if choice is None or choice.why is Why.KEEP:
            return
        hand = peer.hand(stay)
        fetched = [n for n in range(*_pair(choice.span)) if peer.disk is None or n not in peer.disk]
        if peer.span is not None:
            self.out.moves += 1
            self.out.moved_layers += len(fetched)
            peer.moved.append(self.now)
        peer.online_at = self.now + hand.away(choice.span)
        peer.span = peer.disk = choice.span

    def serving(self) -> list[tuple[Span, float]]:
        return [
            (peer.span, peer.card.speed)
            for peer in self.peers
            if peer.span is not None and peer.lies != math.inf and peer.online_at <= self.now
        ]

    def measure(self) -> tuple[float, float, list[Card]]:
        held = self.serving()
        cards = [peer.card for peer in self.peers if peer.lies != math.inf and peer.span is not None]
        return throughput(held), even_use(held), cards

    def count_opened(self, before: list[Span | None]) -> None:
        """Layers that somebody held, and that after this minute's choices nobody does."""
        was, now = _counts(before), _counts([peer.span for peer in self.peers])
        self.out.opened += int(((was > 0) & (now == 0)).sum())

    def note_holes(self) -> None:
        """A hole is a layer without an honest donor; it is chosen, then served. It counts from when its
        donor's record is gone or found out, which nobody can shorten by choosing better."""
        honest = [peer for peer in self.peers if peer.lies != math.inf and peer.span is not None]
        chosen = _counts([peer.span for peer in honest])
        served = _counts([peer.span for peer in honest if peer.online_at <= self.now])
        ghosts = [peer.span for peer in self.gone]
        ghosts += [p.span for p in self.peers if p.lies == math.inf and p.number not in self.known]
        hidden = _counts(ghosts)
        for layer in range(LAYERS):
            open_ = self.holes.get(layer)
            if served[layer] == 0 and chosen[layer] == 0 and hidden[layer] == 0:
                self.holes.setdefault(layer, self.now)
            elif open_ is not None and served[layer] > 0:
                self.out.online.append(self.now - abs(open_))
                del self.holes[layer]
            elif open_ is not None and open_ >= 0 and chosen[layer] > 0:
                self.out.chosen.append(self.now - open_)
                self.holes[layer] = -open_


def _pair(span: Span) -> tuple[int, int]:
    return span.start, span.end


def _counts(spans: list[Span | None]) -> Ints:
    edges = np.zeros(LAYERS + 1, dtype=np.int64)
    for span in spans:
        if span is not None:
            edges[span.start] += 1
            edges[span.end] -= 1
    return np.cumsum(edges)[:LAYERS]


class View:
    """The records at the start of a minute as ``core.serving.choose.levels`` would add them up; the same
    sums, kept in arrays, since every donor asks for them."""

    def __init__(self, swarm: Swarm) -> None:
        claims = [*swarm.peers, *swarm.gone]
        self.count = len(swarm.peers)
        spans = [peer.span for peer in claims]
        self.start = np.array([span.start if span else 0 for span in spans], dtype=np.int64)
        self.end = np.array([span.end if span else 0 for span in spans], dtype=np.int64)
        placed = self.end > self.start
        speed = np.array([self._claimed(peer) for peer in claims])
        typical = np.median(speed[placed]) if placed.any() else 0.0
        trust = np.array([0.0 if peer.number in swarm.known else STRANGER for peer in claims])
        length = np.maximum(self.end - self.start, 1)
        # A typical speed a layer, so cards are compared by layers a second, as ``levels`` does.
        self.rate = trust * np.minimum(speed, PLAUSIBLE * typical) / length * placed
        part = trust / length * placed
        self.likely, self.surely = (
            part * np.minimum(speed, LIKELY * typical),
            part * np.minimum(speed, typical),
        )
        self.believed = placed & (trust > 0)
        self.held = self._sum(self.believed.astype(float)).astype(np.int64)
        self.has_hole = bool((self.held == 0).any())
        self.movable = self.believed & (self._least(self.held) > 1)
        self.donors = int(self.believed.sum())
        self.steady = self.held
        self.pictures = self._pictures(swarm)
        self.swarm = swarm

    def deal(self, lots: Floats) -> float:
        """The lot below which donors may move now; who may is not counted on by others."""
        limit = share(int((self.held == 0).sum()), self.donors, int(self.movable.sum()))
        goes = self.movable.copy()
        goes[: self.count] &= lots < limit
        goes[self.count :] = False
        self.steady = self.held - self._sum(goes.astype(float)).astype(np.int64)
        self.goes, self.limit = goes, limit
        return limit

    def levels(self, index: int) -> Levels:
        """Without the donor that asks."""
        rates = self.pictures[index % len(self.pictures)].copy()
        held, steady = self.held.copy(), self.steady.copy()
        part = slice(self.start[index], self.end[index])
        rates[part] = np.maximum(rates[part] - self.rate[index], 0.0)
        if self.believed[index]:
            held[part] -= 1
            steady[part] -= not self.goes[index]
        return Levels(
            tuple(rates.tolist()),
            tuple(held.tolist()),
            tuple(steady.tolist()),
            self.donors - bool(self.believed[index]),
            self.limit,
            self.spans_without(index),
        )

    def spans_without(self, index: int) -> tuple[Held, ...]:
        """As ``choose`` looks at a small swarm."""
        if self.donors > CROWD:
            return ()
        return tuple(
            Held(Span(int(self.start[n]), int(self.end[n])), float(self.likely[n]), float(self.surely[n]))
            for n in range(len(self.start))
            if self.believed[n] and n != index
        )

    def _claimed(self, peer: Peer) -> float:
        """Layers a second."""
        if peer.span is None:
            return 0.0
        lies = 1.0 if peer.lies == math.inf else peer.lies
        return len(peer.span) * peer.hand(1.0).rate(peer.span) * lies

    def _sum(self, values: Floats, first: int = 0, last: int = LAYERS) -> Floats:
        edges = np.zeros(LAYERS + 1)
        np.add.at(edges, np.clip(self.start, first, last), values)
        np.add.at(edges, np.clip(self.end, first, last), -values)
        return np.cumsum(edges)[:LAYERS]

    def _least(self, values: Ints) -> Ints:
        least = np.full(len(self.start), np.iinfo(np.int64).max)
        for index, (start, end) in enumerate(zip(self.start, self.end, strict=True)):
            if end > start:
                least[index] = values[start:end].min()
        return least

    def _pictures(self, swarm: Swarm) -> list[Floats]:
        """The rates as readers see them: all of a band, or what lies under a few of its keys, scaled."""
        exact = self._sum(self.rate)
        if self.donors <= FULL * SAMPLED:
            return [exact]
        bits = swarm.numbers.integers(0, 1 << 20, len(self.start))
        return [self._sampled(bits, swarm) for _ in range(VIEWS)]

    def _sampled(self, bits: Ints, swarm: Swarm) -> Floats:
        picture = np.zeros(LAYERS)
        for first in range(0, LAYERS, BAND_LAYERS):
            last = min(first + BAND_LAYERS, LAYERS)
            touching = (self.start < last) & (self.end > first)
            depth = max(0, math.ceil(math.log2(max(touching.sum(), 1) / FULL)))
            keys = min(1 << depth, SAMPLED)
            chosen = swarm.numbers.choice(1 << depth, keys, replace=False)
            found = touching & np.isin(bits >> (20 - depth), chosen)
            picture += self._sum(self.rate * found, first, last) * (1 << depth) / keys
        return picture


def with_donors(scenario: Scenario, donors: int) -> Scenario:
    return replace(scenario, donors=donors)
