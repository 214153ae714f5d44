"""A swarm over hours, minute by minute: donors join, leave, crash and lie, and each looks at the records and
follows ``core.serving.choose``. Nobody sees more than the directory shows (``benchmarks.placement.views``):
records of the last minute, and a crashed donor's record until it expires."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.placement.donors import LAYERS, STAY, Card, Peer, draw
from benchmarks.placement.optimum import can_hold, throughput
from benchmarks.placement.views import EXPIRY, TICK, Crowd, Ints, Records, View, counts, name_of
from core.routing.seen import Experience
from core.serving.choose import Why, alone, choose, may_go
from core.serving.levels import BELIEVED, CROWD, Levels
from core.terms import Span

QUIET = 3600.0
MOST_HOURS = 24.0
"""A swarm that is not at rest by then is measured as it is."""
BETWEEN_MINUTES = 15
LOOK = 5
"""Minutes between a donor's looks at bands that it does not serve; where there is a hole, one."""


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
        fetched = [
            n for n in range(choice.span.start, choice.span.end) if peer.disk is None or n not in peer.disk
        ]
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
        return counts([peer.span for peer in self.peers if peer.lies != math.inf])

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
        knowing = [one.trust(name_of(liar)) < BELIEVED for one in self.experiences.values()]
        return 2 * sum(knowing) > max(len(self.peers), 1)

    def note_holes(self) -> None:
        """A hole is a layer without an honest donor; it is chosen, then served. It counts from when its
        donor's record is gone or found out, which nobody can shorten by choosing better, and only while
        the donors that are there could hold the whole model."""
        honest = [peer for peer in self.peers if peer.lies != math.inf]
        chosen = counts([peer.goal for peer in honest])
        served = counts([peer.span for peer in honest])
        ghosts = [peer.span for peer in self.gone]
        ghosts += [p.goal for p in self.peers if p.lies == math.inf and not self.found_out(p)]
        hidden = counts(ghosts)
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
