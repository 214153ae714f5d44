"""What one donor after the other sees of a simulated swarm: of a small one the records themselves, of a large
one the same sums in arrays, of crowded bands a sample."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.placement.donors import LAYERS, WEIGHTS, Card, Peer, table_and_ends
from core.errors import NoDonor
from core.node.trial import every
from core.routing.curious import leading_over, least_known
from core.routing.route import layer_seconds, plan
from core.routing.seen import LEAST_ROUNDS, Experience, Part
from core.serving.choose import among
from core.serving.levels import LEAST, PLAUSIBLE, STRANGER, Levels, levels, share, turn
from core.swarm.crowded import part_seen, visible
from core.swarm.records import BAND_LAYERS
from core.terms import DonorState, ModelRef, PeerId, Record, Route, Span

if TYPE_CHECKING:
    from benchmarks.placement.simulate import Swarm

TICK = 60.0
EXPIRY = 90.0
HOP_SECONDS = 0.04
"""From one donor to the next;"""
HOP_ERROR, STEP_ERROR = 0.3, 0.2
"""the parts by which hops and steps differ from what is expected of them."""
TRIES = 8
"""Donors who fail before a reader gives up."""
VIEWS = 12
"""Different samples of a crowded swarm that are dealt out among those who look in one minute."""
MODEL = ModelRef("bigscience/bloom", "main", LAYERS)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def counts(spans: list[Span | None]) -> Ints:
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
        self.peers = {name_of(peer): peer for peer in (*swarm.peers, *swarm.gone)}
        self.there = {name_of(peer) for peer in swarm.peers}
        held = counts([peer.goal for peer in (*swarm.peers, *swarm.gone)])
        self.has_hole = bool((held == 0).any()) or any(
            swarm.found_out(peer) for peer in swarm.peers if peer.lies == math.inf
        )

    def levels(self, index: int) -> Levels:
        me = name_of(self.swarm.peers[index])
        known = self._experience(me)
        records = known.seen.believed(self.records)
        return levels(records, LAYERS, me, self.swarm.now, known, ends=self._ends, weights=WEIGHTS)

    def answering(self, index: int) -> Levels:
        return among(self.levels(index), set(filter(self._serves, self.peers)))

    def knows(self, peer: Peer) -> bool:
        return name_of(peer) in self.peers

    def _experience(self, me: PeerId) -> Experience:
        return self.swarm.experiences.setdefault(self.peers[me].number, Experience(lambda: self.swarm.now))

    def read(self, peer: Peer) -> None:
        """Over whom this reader knows least, where that makes a route."""
        known = self._experience(name_of(peer))
        records = [record for record in self.records if record.state is DonorState.ONLINE]
        known.suspects.relied_on(records)
        chance = self.swarm.chance
        one = least_known(records, known.seen, {name_of(peer)}, chance)
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
        me = name_of(peer)
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
        return turn(name_of(self.swarm.peers[index]), int(self.swarm.now // TICK))

    def may_move(self, index: int) -> bool:
        return True


def _hop(one: PeerId, other: PeerId) -> float:
    return HOP_SECONDS if one != other else 0.0


def name_of(peer: Peer) -> PeerId:
    return PeerId(f"peer {peer.number}")


def _record(peer: Peer, now: float) -> Record:
    span, going = (peer.span, peer.going) if peer.span is not None else (peer.going, None)
    assert span is not None
    lies = 1.0 if peer.lies == math.inf else peer.lies
    return Record(
        name_of(peer),
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
