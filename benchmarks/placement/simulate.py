"""A swarm over hours, minute by minute: donors join, leave, crash and lie, and each looks at the records and
follows ``core.serving.choose``. Nobody sees more than the directory shows: records of the last minute, of
crowded bands a sample, and a crashed donor's record until it expires."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.placement.donors import LAYERS, STAY, WEIGHTS, Card, Peer, draw, table_and_ends
from benchmarks.placement.optimum import can_hold, throughput
from core.errors import NoDonor
from core.node.trial import every
from core.routing.curious import leading_over, least_known
from core.routing.route import layer_seconds, plan
from core.routing.seen import LEAST_ROUNDS, Experience, Part
from core.serving.choose import Why, alone, among, choose, may_go
from core.serving.levels import BELIEVED, CROWD, LEAST, PLAUSIBLE, STRANGER, Levels, levels, share, turn
from core.swarm.crowded import part_seen, visible
from core.swarm.records import BAND_LAYERS
from core.terms import DonorState, ModelRef, PeerId, Record, Route, Span

TICK = 60.0
QUIET = 3600.0
MOST_HOURS = 24.0
"""A swarm that is not at rest by then is measured as it is."""
EXPIRY = 90.0
HOP_SECONDS = 0.04
"""From one donor to the next;"""
HOP_ERROR, STEP_ERROR = 0.3, 0.2
"""the parts by which hops and steps differ from what is expected of them."""
TRIES = 8
"""Donors who fail before a reader gives up."""
BETWEEN_MINUTES = 15
LOOK = 5
"""Minutes between a donor's looks at bands that it does not serve; where there is a hole, one."""
VIEWS = 12
"""Different samples of a crowded swarm that are dealt out among those who look in one minute."""
MODEL = ModelRef("bigscience/bloom", "main", LAYERS)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Scenario:
    donors: int
    seed: int
    churn_hours: float
    liars: float = 0.05
    gather_minutes: float = 60.0
    together: bool = False
    """All come within one minute: the power is back."""


@dataclass(frozen=True)
class Measured:
    throughput: float = 0.0
    cards: tuple[Card, ...] = ()
    """Of the honest donors that are there."""


@dataclass
class Outcome:
    """``settled`` and ``again`` are swarms at rest, before and after the churn."""

    settled: Measured = Measured()
    again: Measured = Measured()
    between: list[Measured] = field(default_factory=list)
    """While donors come and go, every quarter of an hour."""
    chosen: list[float] = field(default_factory=list)
    """Seconds from a hole to the choice that fills it, where a donor that fits was there."""
    online: list[float] = field(default_factory=list)
    """Seconds from a hole to the layer's being served again."""
    hours_to_rest: list[float] = field(default_factory=list)
    moved_layers: int = 0
    moves: int = 0
    opened: int = 0
    """Layers that a move left without a donor: must stay 0."""


def drawing(scenario: Scenario) -> random.Random:
    """The chance that donors are drawn by, and nothing else: who comes does not depend on what others did."""
    return random.Random(f"donors {scenario.seed}")


def first_cards(scenario: Scenario) -> tuple[Card, ...]:
    """Of the honest donors among those that come first, before anything is simulated."""
    chance = drawing(scenario)
    peers = [draw(number, 0.0, chance, scenario.liars) for number in range(scenario.donors)]
    return tuple(peer.card for peer in peers if peer.lies != math.inf)


class Swarm:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.chance = random.Random(scenario.seed)
        self.drawing = drawing(scenario)
        self.numbers = np.random.default_rng(scenario.seed)
        self.peers: list[Peer] = []
        self.gone: list[Peer] = []
        """Crashed, with a record that has not expired."""
        self.experiences: dict[int, Experience] = {}
        """What each donor's reader has learnt of the others."""
        self.broken: dict[int, float] = {}
        """Since when the model is not whole, as far as each donor knows."""
        self.earlier: View | None = None
        """What could be seen a minute ago."""
        self.now, self.next = 0.0, 0
        self.moved_at = 0.0
        self.holes: dict[int, float] = {}
        self.out = Outcome()

    def run(self) -> Outcome:
        scenario, out = self.scenario, self.out
        minutes = 1.0 if scenario.together else scenario.gather_minutes
        while len(self.peers) < scenario.donors:
            self.join(min(math.ceil(scenario.donors / minutes), scenario.donors - len(self.peers)))
            self.tick()
        out.hours_to_rest.append(self.settle())
        out.settled = self.measure()
        out.moves = out.moved_layers = 0
        self.churn(scenario.churn_hours)
        out.hours_to_rest.append(self.settle())
        out.again = self.measure()
        return out

    def settle(self) -> float:
        """Until nobody has decided for another place or come to one for an hour, and all serve what they
        fetched. Returns the hours that it took."""
        began = self.now
        while self.now - began < MOST_HOURS * 3600.0:
            self.tick()
            rest = all(peer.going is None or peer.online_at < self.now - QUIET for peer in self.peers)
            if rest and self.now - max(self.moved_at, began) >= QUIET:
                break
        return (self.now - began) / 3600.0

    def churn(self, hours: float) -> None:
        """As many come as go."""
        out, per_tick = self.out, self.scenario.donors * TICK / (8 * 3600.0)
        for peer in self.peers:
            peer.ends_at = self.now + self.chance.expovariate(1 / (8 * 3600.0))
        self.holes.clear()
        out.chosen.clear()
        out.online.clear()
        for minute in range(int(hours * 60)):
            if minute % BETWEEN_MINUTES == BETWEEN_MINUTES - 1:
                out.between.append(self.measure())
            for peer in [peer for peer in self.peers if peer.ends_at <= self.now]:
                self.peers.remove(peer)
                if peer.crashes:
                    peer.ends_at = self.now
                    self.gone.append(peer)
            self.join(int(self.numbers.poisson(per_tick)))
            self.tick()
        for peer in self.peers:
            peer.ends_at = math.inf

    def join(self, count: int) -> None:
        for _ in range(count):
            peer = draw(self.next, self.now, self.drawing, self.scenario.liars)
            peer.ends_at = peer.ends_at if self.out.settled.cards else math.inf
            self.next += 1
            self.peers.append(peer)

    def tick(self) -> None:
        """One minute. Who decides has records a minute old; who goes reads them anew, and a few words over
        those on whom it counts."""
        view = self.look()
        earlier = self.earlier or view
        window = int(self.now // TICK)
        before = self.served_well()
        for index, peer in enumerate(self.peers):
            arrives = peer.going is not None and peer.online_at <= self.now
            if arrives:
                self.arrive(peer, view, index)
            if peer.lies == 1.0 and self.chance.random() * view.trial_seconds(peer) < TICK:
                view.read(peer)
            looks = peer.goal is None or view.has_hole or (peer.number + window) % LOOK == 0
            # Who fetches looks on: what has changed meanwhile may want it elsewhere.
            if looks and not arrives and (peer.goal is None or view.may_move(index)):
                seen = earlier if earlier.knows(peer) else view
                self.decide(peer, self.counting(peer, seen.levels(index)), view.lot(index))
        self.count_opened(before)
        self.note_holes()
        self.gone = [peer for peer in self.gone if peer.ends_at + EXPIRY > self.now]
        self.now += TICK
        self.earlier = view if isinstance(view, Records) else None

    def counting(self, peer: Peer, seen: Levels) -> Levels:
        """On others that are expected to move, until that has taken too long."""
        own = peer.goal or ()
        if all(count or layer in own for layer, count in enumerate(seen.held)):
            self.broken.pop(peer.number, None)
            return seen
        since = self.broken.setdefault(peer.number, self.now)
        return replace(seen, alone=alone(self.now - since, self.now))

    def look(self) -> View:
        return Records(self) if len(self.peers) + len(self.gone) <= CROWD else Crowd(self)

    def decide(self, peer: Peer, seen: Levels, lot: float) -> None:
        hand = peer.hand(STAY)
        choice = choose(seen, hand, lot, self.chance)
        if choice is None or choice.why is Why.KEEP:
            return
        fetched = [n for n in range(*_pair(choice.span)) if peer.disk is None or n not in peer.disk]
        if peer.goal is not None:
            self.out.moves += 1
            self.out.moved_layers += len(fetched)
        peer.online_at = self.now + hand.away(choice.span)
        peer.going, peer.disk = choice.span, choice.span
        self.moved_at = self.now

    def arrive(self, peer: Peer, view: View, index: int) -> None:
        """The layers are there: it serves them instead, if nobody needs it any more where it is."""
        assert peer.going is not None
        if peer.span is None or may_go(view.answering(index), peer.span, peer.going):
            peer.span, peer.going = peer.going, None
            self.moved_at = self.now

    def served_well(self) -> Ints:
        """How many honest donors serve each layer."""
        return _counts([peer.span for peer in self.peers if peer.lies != math.inf])

    def serving(self) -> list[tuple[Span, float]]:
        return [
            (peer.span, peer.card.speed)
            for peer in self.peers
            if peer.span is not None and peer.lies != math.inf
        ]

    def measure(self) -> Measured:
        cards = tuple(peer.card for peer in self.peers if peer.lies != math.inf)
        return Measured(throughput(self.serving()), cards)

    def count_opened(self, was: Ints) -> None:
        """Layers that somebody served, and that after this minute's moves nobody does, while the model was
        whole: before it is, nobody is served."""
        if (was > 0).all():
            self.out.opened += int((self.served_well() == 0).sum())

    def found_out(self, liar: Peer) -> bool:
        """By most of those who could fill its layers."""
        knowing = [one.trust(_name(liar)) < BELIEVED for one in self.experiences.values()]
        return 2 * sum(knowing) > max(len(self.peers), 1)

    def note_holes(self) -> None:
        """A hole is a layer without an honest donor; it is chosen, then served. It counts from when its
        donor's record is gone or found out, which nobody can shorten by choosing better, and only while
        the donors that are there could hold the whole model."""
        honest = [peer for peer in self.peers if peer.lies != math.inf]
        chosen = _counts([peer.goal for peer in honest])
        served = _counts([peer.span for peer in honest])
        ghosts = [peer.span for peer in self.gone]
        ghosts += [p.goal for p in self.peers if p.lies == math.inf and not self.found_out(p)]
        hidden = _counts(ghosts)
        able = bool((served > 0).all()) or can_hold([peer.card for peer in honest])
        for layer in range(LAYERS):
            open_ = self.holes.get(layer)
            if not able:
                self.holes.pop(layer, None)
            elif served[layer] == 0 and chosen[layer] == 0 and hidden[layer] == 0:
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


class View(Protocol):
    """The records at the start of a minute, as one donor of ``Swarm.peers`` after the other asks."""

    has_hole: bool

    def levels(self, index: int) -> Levels: ...
    def answering(self, index: int) -> Levels:
        """The same with nobody but those who serve: it has read a few words over them (``among``)."""

    def lot(self, index: int) -> float: ...
    def may_move(self, index: int) -> bool: ...
    def read(self, peer: Peer) -> None:
        """Its trial of the swarm. What it learns of other donors by that, and by nothing else, is what
        Idlebloom learns: ``core.routing.seen`` itself. In a crowd nobody learns anything."""

    def trial_seconds(self, peer: Peer) -> float:
        """Between two of them."""

    def knows(self, peer: Peer) -> bool: ...


class Records:
    """Of a small swarm: the real records, and ``core.serving.levels`` itself."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.records = [
            _record(peer, swarm.now) for peer in (*swarm.peers, *swarm.gone) if peer.goal is not None
        ]
        self.peers = {_name(peer): peer for peer in (*swarm.peers, *swarm.gone)}
        self.there = {_name(peer) for peer in swarm.peers}
        held = _counts([peer.goal for peer in (*swarm.peers, *swarm.gone)])
        self.has_hole = bool((held == 0).any()) or any(
            swarm.found_out(peer) for peer in swarm.peers if peer.lies == math.inf
        )

    def levels(self, index: int) -> Levels:
        me = _name(self.swarm.peers[index])
        known = self._experience(me)
        records = known.seen.believed(self.records)
        return levels(records, LAYERS, me, self.swarm.now, known, ends=self._ends, weights=WEIGHTS)

    def answering(self, index: int) -> Levels:
        return among(self.levels(index), set(filter(self._serves, self.peers)))

    def knows(self, peer: Peer) -> bool:
        return _name(peer) in self.peers

    def _experience(self, me: PeerId) -> Experience:
        return self.swarm.experiences.setdefault(self.peers[me].number, Experience(lambda: self.swarm.now))

    def read(self, peer: Peer) -> None:
        """Over whom this reader knows least, where that makes a route."""
        known = self._experience(_name(peer))
        records = [record for record in self.records if record.state is DonorState.ONLINE]
        known.suspects.relied_on(records)
        chance = self.swarm.chance
        one = least_known(records, known.seen, {_name(peer)}, chance)
        over = leading_over(one, records, chance) if one is not None else []
        for _ in range(TRIES):
            try:
                route = self._route(over, known, known.suspects.among(over))
            except NoDonor:
                # Better one that failed than nobody: a reader who waits tries again and again.
                try:
                    route = self._route(over, known, ())
                except NoDonor:
                    return
            failing = next((s.peer_id for s in route.stages if not self._serves(s.peer_id)), None)
            if failing is None:
                break
            known.failed(failing, heals=False)
            if one is not None and failing == one.peer_id:
                return
        else:
            return
        claims = {record.peer_id: layer_seconds(record) for record in records}
        parts = [Part(one.peer_id, len(one.span), claims[one.peer_id]) for one in route.stages]
        hops, chance = len(parts) if len(parts) > 1 else 0, self.swarm.chance
        ways = HOP_SECONDS * hops
        took = sum(HOP_SECONDS * chance.lognormvariate(0.0, HOP_ERROR) for _ in range(hops))
        for part in parts:
            other = self.peers[part.peer]
            assert other.span is not None
            step = part.layers / (len(other.span) * other.hand(1.0).rate(other.span))
            took += step * chance.lognormvariate(0.0, STEP_ERROR)
        known.answered(parts, LEAST_ROUNDS, ways, took, records)

    def trial_seconds(self, peer: Peer) -> float:
        me = _name(peer)
        if me not in self.peers:
            return math.inf
        return every(self.records, self._experience(me).seen, {me})

    def _route(self, records: Sequence[Record], known: Experience, avoid: Collection[PeerId]) -> Route:
        believed = known.seen.believed(records)
        return plan(believed, LAYERS, avoid=avoid, load=lambda one: known.rank(one.peer_id), delay=_hop)

    def _serves(self, name: PeerId) -> bool:
        return name in self.there and self.peers[name].lies != math.inf

    def _ends(self, record: Record) -> Sequence[int]:
        return table_and_ends(self.peers[record.peer_id].card).ends

    def lot(self, index: int) -> float:
        return turn(_name(self.swarm.peers[index]), int(self.swarm.now // TICK))

    def may_move(self, index: int) -> bool:
        return True


def _hop(one: PeerId, other: PeerId) -> float:
    return HOP_SECONDS if one != other else 0.0


def _name(peer: Peer) -> PeerId:
    return PeerId(f"peer {peer.number}")


def _record(peer: Peer, now: float) -> Record:
    span, going = (peer.span, peer.going) if peer.span is not None else (peer.going, None)
    assert span is not None
    lies = 1.0 if peer.lies == math.inf else peer.lies
    return Record(
        _name(peer),
        MODEL,
        span,
        DonorState.JOINING if peer.span is None else DonorState.ONLINE,
        peer.joined,
        now + EXPIRY,
        step_seconds=1 / (peer.hand(1.0).rate(span) * lies),
        expected_online=math.inf,
        going=going,
    )


@cache
def _layers_a_second(card: Card, span: Span) -> float:
    return sum(WEIGHTS[span.start : span.end]) * table_and_ends(card).rate(span)


class Crowd:
    """Of a large one: the same sums, kept in arrays, since every donor asks for them."""

    def __init__(self, swarm: Swarm) -> None:
        claims = [*swarm.peers, *swarm.gone]
        self.count = len(swarm.peers)
        spans = [peer.goal for peer in claims]
        self.start = np.array([span.start if span else 0 for span in spans], dtype=np.int64)
        self.end = np.array([span.end if span else 0 for span in spans], dtype=np.int64)
        placed = self.end > self.start
        speed = np.array([self._claimed(peer) for peer in claims])
        typical = np.median(speed[placed]) if placed.any() else 0.0
        upto = np.concatenate([[0.0], np.cumsum(WEIGHTS)])
        work = np.where(placed, np.maximum(upto[self.end] - upto[self.start], LEAST), 1.0)
        # A typical speed a layer, so cards are compared by layers a second, as ``levels`` does.
        self.rate = STRANGER * np.where(speed > PLAUSIBLE * typical, typical, speed) / work * placed
        self.believed = placed
        self.held = self._sum(self.believed.astype(float)).astype(np.int64)
        self.has_hole = bool((self.held == 0).any())
        self.movable = self.believed & (self._least(self.held) > 1)
        self.donors = int(self.believed.sum())
        self.pictures: dict[int, tuple[Floats, Floats]] = {}
        self.swarm = swarm
        self.lots = swarm.numbers.random(self.count)
        # Of a crowd each sees a part, and takes it for all.
        part = self._part_seen()
        movable = max(1, round(part * self.movable.sum()))
        self.limit = share(int((self.held == 0).sum()), round(part * self.donors), movable)
        # Who may move now, and who fetches, is not counted on by others; nor who has not begun to serve.
        self.stays = self.believed & np.array(
            [peer.span is not None and peer.going is None for peer in claims]
        )
        self.stays[: self.count] &= ~(self.movable[: self.count] & (self.lots < self.limit))
        served = np.array([peer.span is not None for peer in claims])
        self.served = self._sum((served & self.believed).astype(float)).astype(np.int64)
        self.steady = self._sum(self.stays.astype(float)).astype(np.int64)
        there = self.stays & np.array([peer.lies != math.inf for peer in claims])
        there[self.count :] = False
        self.answers = self._sum(there.astype(float)).astype(np.int64)

    def lot(self, index: int) -> float:
        return float(self.lots[index])

    def may_move(self, index: int) -> bool:
        return bool(self.lots[index] < self.limit)

    def answering(self, index: int) -> Levels:
        steady = self.answers.copy()
        if self.stays[index]:
            steady[self.start[index] : self.end[index]] -= 1
        return replace(self.levels(index), steady=tuple(steady.tolist()))

    def read(self, peer: Peer) -> None: ...

    def trial_seconds(self, peer: Peer) -> float:
        return math.inf

    def knows(self, peer: Peer) -> bool:
        return False

    def levels(self, index: int) -> Levels:
        """Without the donor that asks."""
        seen, blur = self._picture(index % VIEWS)
        rates = seen.copy()
        held, steady = self.held.copy(), self.steady.copy()
        part = slice(self.start[index], self.end[index])
        rates[part] = np.maximum(rates[part] - self.rate[index], 0.0)
        if self.believed[index]:
            held[part] -= 1
            steady[part] -= bool(self.stays[index])
        return Levels(
            tuple(rates.tolist()),
            tuple(held.tolist()),
            tuple(steady.tolist()),
            self.donors - bool(self.believed[index]),
            self.limit,
            served=tuple(self.served.tolist()),
            blur=tuple(blur.tolist()),
        )

    def _part_seen(self) -> float:
        """Of all entries of the directory those that there is room for."""
        touching = [
            int(((self.start < first + BAND_LAYERS) & (self.end > first)).sum())
            for first in range(0, LAYERS, BAND_LAYERS)
        ]
        return sum(map(visible, touching)) / max(sum(touching), 1)

    def _claimed(self, peer: Peer) -> float:
        """Layers a second."""
        if peer.goal is None:
            return 0.0
        return _layers_a_second(peer.card, peer.goal) * (1.0 if peer.lies == math.inf else peer.lies)

    def _sum(self, values: Floats, first: int = 0, last: int = LAYERS) -> Floats:
        starts = np.bincount(np.clip(self.start, first, last), values, LAYERS + 1)
        ends = np.bincount(np.clip(self.end, first, last), values, LAYERS + 1)
        return np.asarray(np.cumsum(starts - ends)[:LAYERS], dtype=np.float64)

    def _least(self, values: Ints) -> Ints:
        spans, which = np.unique(self.start * (LAYERS + 1) + self.end, return_inverse=True)
        bounds = [divmod(int(one), LAYERS + 1) for one in spans]
        least = [values[start:end].min() if end > start else np.iinfo(np.int64).max for start, end in bounds]
        return np.array(least, dtype=np.int64)[which]

    def _picture(self, view: int) -> tuple[Floats, Floats]:
        """The rates as readers see them, all of a band or a sample, and how uncertain they are."""
        if view not in self.pictures:
            self.pictures[view] = self._sampled(self.swarm)
        return self.pictures[view]

    def _sampled(self, swarm: Swarm) -> tuple[Floats, Floats]:
        picture, variance = np.zeros(LAYERS), np.zeros(LAYERS)
        for first in range(0, LAYERS, BAND_LAYERS):
            last = min(first + BAND_LAYERS, LAYERS)
            touching = np.flatnonzero((self.start < last) & (self.end > first))
            found = swarm.numbers.permutation(touching)[: visible(len(touching))]
            seen = np.zeros(len(self.start), dtype=bool)
            seen[found] = True
            picture += self._sum(self.rate * seen, first, last)
            variance += (1 - part_seen(len(found))) * self._sum(self.rate**2 * seen, first, last)
        return picture, np.sqrt(np.maximum(variance, 0.0))
