"""Which span this PC takes, and whether it moves to another. Pure.

A layer's throughput is the sum of the steps a second of the donors that hold it. A donor takes, among the
longest spans that fit here, the one that raises the layers' throughputs, sorted ascending and compared
lexicographically, the most: so holes first, then the weakest layers. Readers use any part of a span, so a
longer one is never worth less.

Claims are not believed at once: each counts as much as its peer is trusted, and none for more than a few
times what is usual. A donor moves in its turn, never away from a layer that nobody else holds steadily,
and only where the gain repays the time away within its expected stay. Everyone computes whose turn it is
from the same records, so two donors of a layer do not leave it in the same moment.
"""

from __future__ import annotations

import hashlib
import math
import random
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from core.model.cost import Costs
from core.terms import DonorState, PeerId, Record, Span

LAYER_SECONDS = 0.001
"""Assumed for a layer of a donor that has not measured itself yet."""
STRANGER = 0.5
"""Trust in a peer that nobody here has used yet. All strangers are discounted alike: it changes what
they weigh beside peers that were seen, not beside each other."""
BELIEVED = 0.25
"""A layer is a hole where all its donors are trusted less than this."""
LIKELY = 2.0
"""The same where a small swarm is looked at as a whole: one boast would count much there."""
PLAUSIBLE = 4.0
"""A donor counts for at most so many times the median speed of a layer."""
WINDOW_SECONDS = 60.0
"""Turns to move are dealt out anew so often."""
MOVERS = 0.01
"""The part of a swarm's donors that may move in one window, but at least one of them on average."""
HOLE_MOVERS = 3.0
"""How many donors may move in one window, on average, while there is a hole."""
TOLERANCE = 0.05
"""Layers whose throughputs differ by less, of the mean, are even enough: nobody moves for that."""
GAIN = 0.02
"""In a small swarm nobody moves for less than this part of what it carries."""
MARGIN = 2.0
"""What a move gains must be so many times what it costs: stays are guesses."""
CROWD = 64
"""Above so many donors each looks at a part of the places only, by chance: else all that join in one
minute would take the same."""
LATE = 120.0
"""A donor that is still joining so long after it expected to serve is not waited for."""

Trust = Callable[[PeerId], float]


def strangers(_peer: PeerId) -> float:
    return STRANGER


@dataclass(frozen=True)
class Held:
    """What a donor holds, and its steps a second through all of it: as it claims, within what is plausible,
    and ``surely`` at most as much as is usual."""

    span: Span
    rate: float
    surely: float


@dataclass(frozen=True)
class Levels:
    """The swarm without this donor. Per layer: ``rates`` steps a second; ``held`` how many believed donors
    hold it; ``steady`` how many of them will not move in this window. Of ``donors`` in all those may move
    whose lot is below ``limit``."""

    rates: tuple[float, ...]
    held: tuple[int, ...]
    steady: tuple[int, ...]
    donors: int
    limit: float
    spans: tuple[Held, ...] = ()
    """In a swarm of few donors: what each holds."""

    @property
    def holes(self) -> int:
        return self.held.count(0)


@dataclass(frozen=True)
class Hand:
    """What this PC can do. ``ends`` are the longest spans that fit, one from each layer
    (``core.serving.fit``); ``serving`` is the span it holds now; ``on_disk`` needs no download.
    ``fetch_rate`` and ``load_rate`` are bytes a second, ``stay`` the seconds it expects to give from now on,
    ``replay_seconds`` what its readers would spend to rebuild their sessions elsewhere."""

    table: Costs
    ends: Sequence[int]
    serving: Span | None = None
    on_disk: Span | None = None
    fetch_rate: float = 2.5e6
    load_rate: float = 200e6
    stay: float = 4 * 3600.0
    replay_seconds: float = 5.0

    def rate(self, span: Span) -> float:
        return 1 / sum(cost.seconds for cost in self.table[span.start : span.end])

    def away(self, span: Span) -> float:
        """Seconds until it would serve ``span``."""
        layers = self.table[span.start : span.end]
        fetch = sum(
            cost.disk
            for layer, cost in enumerate(layers, span.start)
            if self.on_disk is None or layer not in self.on_disk
        )
        load = sum(cost.memory for cost in layers)
        return fetch / self.fetch_rate + load / self.load_rate + self.replay_seconds


class Why(StrEnum):
    JOIN = "join"
    KEEP = "keep"
    HOLE = "hole"
    WEAK = "weak"


@dataclass(frozen=True)
class Choice:
    span: Span
    why: Why


def turn(peer: PeerId, window: int) -> float:
    """This peer's lot for one window, from 0 to 1: the lowest move first."""
    digest = hashlib.sha256(f"{peer} {window}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def share(holes: int, donors: int, movable: int) -> float:
    """The lots below which donors may move in one window. Never more than half of them: someone has to
    stay while others go."""
    movers = HOLE_MOVERS if holes else max(1.0, MOVERS * donors)
    return min(0.5, movers / max(movable, 1))


def levels(
    records: Iterable[Record], layers: int, me: PeerId, now: float, trust: Trust = strangers
) -> Levels:
    """What the others' records say at Unix time ``now``."""
    counted = [record for record in records if _counts(record, now, layers)]
    typical = _typical([record for record in counted if record.peer_id != me])
    rates = [0.0] * layers
    believed: list[Record] = []
    for record in counted:
        weight = max(0.0, min(1.0, trust(record.peer_id)))
        if record.peer_id == me or weight >= BELIEVED:
            believed.append(record)
        if record.peer_id != me:
            rate = weight * min(_layer_rate(record), PLAUSIBLE * typical) / len(record.span)
            for layer in range(record.span.start, record.span.end):
                rates[layer] += rate
    # With the own record: only so does everyone come to the same lots.
    held = _held(believed, layers)
    movable = [record for record in believed if min(held[record.span.start : record.span.end]) > 1]
    limit, window = share(held.count(0), len(believed), len(movable)), int(now // WINDOW_SECONDS)
    going = [record for record in movable if turn(record.peer_id, window) < limit]
    others = [record for record in believed if record.peer_id != me]
    staying = [record for record in others if record not in going]
    known = []
    for one in others:
        claimed, part = _layer_rate(one), trust(one.peer_id) / len(one.span)
        known.append(Held(one.span, part * min(claimed, LIKELY * typical), part * min(claimed, typical)))
    return Levels(
        tuple(rates),
        tuple(_held(others, layers)),
        tuple(_held(staying, layers)),
        len(others),
        limit,
        tuple(known) if len(known) <= CROWD else (),
    )


def choose(seen: Levels, hand: Hand, lot: float, chance: random.Random) -> Choice | None:
    """The span to take now, or to keep. ``lot`` is this peer's ``turn`` in this window. None where nothing
    fits, which ``Fitting.check`` says in words."""
    now = hand.serving
    if now is None:
        span = best(seen, hand, _starts(seen, hand, chance), chance)
        return None if span is None else Choice(span, Why.JOIN)
    stay = Choice(now, Why.KEEP)
    if lot >= seen.limit:
        return stay
    starts = [start for start in _starts(seen, hand, chance) if _may_leave(seen, now, _longest(hand, start))]
    span = best(seen, hand, starts, chance)
    if span is None or span == now:
        return stay
    if _holes(seen, span) > _holes(seen, now):
        return Choice(span, Why.HOLE)
    return Choice(span, Why.WEAK) if _repays(seen, hand, now, span) else stay


def carried(spans: Iterable[tuple[Span, float]], weights: Sequence[float]) -> float:
    """At most how many steps a second these donors carry together, readers sharing their work out as well
    as it can be: a donor may give all of its time to any of its layers. ``spans`` with their steps a
    second, ``weights`` what a step costs in each layer.

    No run of layers [i, j) is stepped through faster than all donors that touch it can at most: the
    slowest run bounds the swarm. (It is a cut of the flow from donors to layers. Cuts of layers that do
    not lie together may be lower still; they are not looked at.)"""
    layers = len(weights)
    before, behind = np.zeros(layers + 1), np.zeros(layers + 1)
    upto = np.concatenate([[0.0], np.cumsum(weights)])
    total = 0.0
    for span, rate in spans:
        work = rate * (upto[span.end] - upto[span.start])
        total += work
        before[span.end] += work  # it touches nothing from its end on,
        behind[span.start] += work  # and nothing before its start
    ended = np.cumsum(before)
    begins = np.cumsum(behind[::-1])[::-1]
    need = upto[None, :] - upto[:, None]
    able = total - ended[:, None] - begins[None, :]
    runs = need > 0
    return max(0.0, float((able[runs] / need[runs]).min()))  # sums of floats may end just below


def best(seen: Levels, hand: Hand, starts: Collection[int], chance: random.Random) -> Span | None:
    """Of the longest spans from ``starts`` the one that fills most holes and leaves the others together,
    then raises the throughputs most; among equals the one that is online soonest, then any."""
    spans = [span for start in starts if (span := _longest(hand, start)) is not None]
    if not spans:
        return None
    tie = chance.random()
    most = max(_holes(seen, span) for span in spans)
    spans = [span for span in spans if _holes(seen, span) == most]

    def flow(span: Span) -> float:
        return round(_worth(seen, hand, span), 9) if seen.spans else 0.0

    def merit(span: Span) -> tuple[object, ...]:
        rate = hand.rate(span)
        after = list(seen.rates)
        for layer in range(span.start, span.end):
            after[layer] += rate
        lots = (span.start * 0.618 + tie) % 1.0
        return -_pieces(seen, span), flow(span), sorted(after), -hand.away(span), lots

    return max(spans, key=merit)


def _held(records: Iterable[Record], layers: int) -> list[int]:
    held = [0] * layers
    for record in records:
        for layer in range(record.span.start, record.span.end):
            held[layer] += 1
    return held


def _counts(record: Record, now: float, layers: int) -> bool:
    if record.span.end > layers or record.state is DonorState.LEAVING:
        return False
    if record.state is DonorState.JOINING:
        return now < record.started_at + record.expected_online + LATE
    return True


def _layer_rate(record: Record) -> float:
    """Layers a second, as claimed."""
    return len(record.span) / record.step_seconds if record.step_seconds > 0 else 1 / LAYER_SECONDS


def _typical(records: Sequence[Record]) -> float:
    return statistics.median(map(_layer_rate, records)) if records else 0.0


def _starts(seen: Levels, hand: Hand, chance: random.Random) -> list[int]:
    starts = list(range(len(hand.ends)))
    if seen.holes or seen.donors <= CROWD:
        return starts
    return chance.sample(starts, max(1, len(starts) // 2))


def _longest(hand: Hand, start: int) -> Span | None:
    end = hand.ends[start]
    return Span(start, end) if end > start else None


def _holes(seen: Levels, span: Span) -> int:
    return seen.held[span.start : span.end].count(0)


def _pieces(seen: Levels, span: Span) -> int:
    """Into how many pieces the holes fall once ``span`` is held: one piece of many layers is easier to
    fill than many of a few."""
    empty = [count == 0 and layer not in span for layer, count in enumerate(seen.held)]
    return sum(now and not before for before, now in zip([False, *empty], empty, strict=False))


def _may_leave(seen: Levels, now: Span, span: Span | None) -> bool:
    return span is not None and all(
        seen.steady[layer] > 0 for layer in range(now.start, now.end) if layer not in span
    )


def _worth(seen: Levels, hand: Hand, span: Span | None) -> float:
    """What the swarm would carry with this donor at ``span``: half way between what all claim and what is
    sure, so that nobody's boast makes others stay away from layers that need them."""
    weights = [cost.seconds for cost in hand.table]
    mine = STRANGER * hand.rate(span) if span is not None else 0.0
    claimed = [(held.span, held.rate) for held in seen.spans]
    surely = [(held.span, held.surely) for held in seen.spans]
    own = [] if span is None else [(span, mine)]
    return math.sqrt(carried([*claimed, *own], weights) * carried([*surely, *own], weights))


def _carries_more(seen: Levels, hand: Hand, now: Span, span: Span) -> bool:
    """The same of what the whole swarm carries, where it is small enough to be looked at as a whole."""
    without, before, after = (_worth(seen, hand, one) for one in (None, now, span))
    away = hand.away(span)
    gain = (after - before) * (hand.stay - away)
    return after > (1 + GAIN) * before and gain > MARGIN * (before - without) * away


def _repays(seen: Levels, hand: Hand, now: Span, span: Span) -> bool:
    """Whether what the move adds to the weakest layer it touches, for the rest of the stay, is well above
    what is lost of the own steps while away."""
    if seen.spans:
        return _carries_more(seen, hand, now, span)
    touched = [*range(now.start, now.end), *range(span.start, span.end)]
    here, there = hand.rate(now), hand.rate(span)
    before = min(seen.rates[layer] + here * (layer in now) for layer in touched)
    after = min(seen.rates[layer] + there * (layer in span) for layer in touched)
    mean = sum(seen.rates) / len(seen.rates)
    # One donor of many moves a level by little: what counts is how far apart the levels are.
    apart = min(seen.rates[now.start : now.end]) - min(seen.rates[span.start : span.end])
    away = hand.away(span)
    return apart > TOLERANCE * mean and (after - before) * (hand.stay - away) > MARGIN * here * away
