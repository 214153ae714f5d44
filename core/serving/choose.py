"""Which span this PC takes, and whether it moves to another. Pure.

A layer's throughput is the sum of the steps a second of the donors that hold it. A donor takes, among the
longest spans that fit here, the one that raises the layers' throughputs, sorted ascending and compared
lexicographically, the most: so holes first, then the weakest layers. Readers use any part of a span, so a
longer one is never worth less.

A donor moves in its turn, never away from a layer that nobody else holds steadily, and only where the gain
repays the time away within its expected stay.

A swarm of few donors is looked at as a whole (``core.serving.joint``): while it does not hold the whole
model nobody is served, and all go where together they would hold it; once it does, they go there one by one,
if that carries well more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from core.model.cost import Costs
from core.serving.joint import Joint, Member, carries, together
from core.serving.levels import CROWD, STRANGER, WINDOW_SECONDS, Held, Levels, turn
from core.swarm.records import without
from core.terms import PeerId, Record, Span

TOLERANCE = 0.05
"""Layers whose throughputs differ by less, of the mean, are even enough: nobody moves for that."""
SURE = 3.0
"""Where only a sample of a crowd is seen they must also differ by so many standard errors: who looks at all
places, and often, always finds one that seems weak."""
GAIN = 0.02
"""In a small swarm nobody moves for less than this part of what it carries."""
MARGIN = 2.0
"""What a move gains must be so many times what it costs: stays are guesses."""
APART = 1.08
"""In a small swarm that holds the whole model all move to where they would be best together if that carries
so many times as much."""

WAIT_SECONDS = 600.0
"""After so long with layers that nobody has or fetches, whoever was expected to is expected no more, and for
as long; then again. Not all know the same of each other, so what is best together may never come about; but
where nobody can be spared, only all together fill a hole."""


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


def choose(seen: Levels, hand: Hand, lot: float, chance: random.Random) -> Choice | None:
    """The span to take now, or to keep. ``lot`` is this peer's ``turn`` in this window. None where nothing
    fits, which ``Fitting.check`` says in words."""
    choice, goal = _choose(seen, hand, lot, chance), hand.serving
    if choice is None or goal is None or not _on_its_way(seen, goal):
        return choice
    # Where not all know the same, what is best together changes faster than anything can be fetched.
    return Choice(goal, Why.KEEP) if _holes(seen, goal) >= max(1, _holes(seen, choice.span)) else choice


def _on_its_way(seen: Levels, goal: Span) -> bool:
    """Whether this donor has told others that it goes to ``goal``, and does not serve it yet."""
    return seen.own is not None and seen.own.span == goal and not seen.own.steady


def _choose(seen: Levels, hand: Hand, lot: float, chance: random.Random) -> Choice | None:
    now = hand.serving
    joint = _together(seen, hand)
    if joint is not None and not joint.whole and joint.mine is not None:
        # Nobody is served before the model is whole: all go at once, wherever they are.
        why = Why.JOIN if now is None else Why.KEEP if joint.mine == now else Why.HOLE
        return Choice(joint.mine, why)
    if now is None:
        span = best(seen, hand, _starts(seen, hand, chance), chance)
        return None if span is None else Choice(span, Why.JOIN)
    stay = Choice(now, Why.KEEP)
    if joint is not None and joint.pays:
        if joint.mine not in (None, now) and joint.first and _may_leave(seen, now, joint.mine):
            return Choice(joint.mine, Why.WEAK) if joint.mine is not None else stay
        if not _stuck(seen):
            return stay
    if lot >= seen.limit:
        return stay
    starts = [start for start in _starts(seen, hand, chance) if _may_leave(seen, now, _longest(hand, start))]
    span = best(seen, hand, starts, chance)
    if span is None or span == now:
        return stay
    if _holes(seen, span) > _holes(seen, now):
        return Choice(span, Why.HOLE)
    return Choice(span, Why.WEAK) if _repays(seen, hand, now, span) else stay


def alone(broken: float, now: float) -> bool:
    """Whether a donor counts on nobody else to move at Unix time ``now``, after layers had no donor for
    ``broken`` seconds. The turns are the same for all."""
    return broken > WAIT_SECONDS and int(now // WAIT_SECONDS) % 2 == 1


def _stuck(seen: Levels) -> bool:
    """Whether nobody goes where all together would be best, for one that is to go first may see that
    otherwise: then each moves by itself where that helps. By turns, so that those who agree go on."""
    turns = seen.window * WINDOW_SECONDS // WAIT_SECONDS
    return turns % 2 == 1 and all(held.steady for held in seen.spans)


def may_go(seen: Levels, now: Span, goal: Span, *, known: bool = True) -> bool:
    """Whether a donor that has fetched ``goal`` may leave ``now`` for it: who serves nobody, since the model
    is not whole, may; else every layer that it leaves is served by someone who stays. ``known``: it has said
    where it goes for longer than a record takes to reach the others; before, it may not leave a whole model.

    So no layer is left alone, however late records arrive: who goes reads them anew first. Of two that leave
    the same layer the later reader sees the other, gone or about to go, and counts on it only if it ranks
    above; and that one, which sees the reader too, then does not count on the reader."""
    whole = all(count or layer in now for layer, count in enumerate(seen.served or seen.held))
    return not whole or (known and _may_leave(seen, now, goal))


def left_to_others(seen: Levels, records: Collection[Record], now: Span, goal: Span) -> list[Record]:
    """The swarm as it would be if this donor had gone from ``now`` to ``goal``: what it leaves is held by
    those on whom it counts and nobody else."""
    left = frozenset(range(now.start, now.end)) - frozenset(range(goal.start, goal.end))
    counted = {peer for peer, _ in seen.stays}
    cut = (one if one.peer_id in counted else without(one, left) for one in records)
    return [one for one in cut if one is not None]


def among(seen: Levels, there: Collection[PeerId]) -> Levels:
    """The same with nobody counted on but those who were found to serve (``there``): a record may lie, and
    outlives a donor that was killed by up to 90 s."""
    stays = tuple(one for one in seen.stays if one[0] in there)
    steady = [0] * len(seen.steady)
    for _, span in stays:
        for layer in range(span.start, span.end):
            steady[layer] += 1
    return replace(seen, stays=stays, steady=tuple(steady))


@dataclass(frozen=True)
class _Common:
    """What all would do together: this donor's part of it, whether they hold the whole model now, whether
    going there pays, and whether this donor is the first to go."""

    mine: Span | None
    whole: bool
    pays: bool
    first: bool


def _together(seen: Levels, hand: Hand) -> _Common | None:
    """None in a swarm that is large, or of one, or too small for the model."""
    if not seen.spans or seen.donors > CROWD or seen.alone:
        return None
    total = sum(cost.seconds for cost in hand.table)
    weights = tuple(round(cost.seconds / total, 9) for cost in hand.table)
    me = _as_member(seen.own, weights) if seen.own else _newcomer(hand, weights, seen.me)
    if hand.serving is not None or seen.own is None:
        me = replace(me, at=hand.serving, ends=tuple(hand.ends))
    members = (*(_as_member(held, weights) for held in seen.spans), me)
    members = tuple(sorted(members, key=lambda one: one.name))
    joint = together(members, weights)
    if joint.rate <= 0:
        return None
    mine = joint.spans[members.index(me)]
    now = carries([(one.at, one.work) for one in members if one.at is not None], weights)
    pays = joint.rate > APART * now
    return _Common(mine, now > 0, pays, pays and _goes_first(seen, members, joint))


def _goes_first(seen: Levels, members: Sequence[Member], joint: Joint) -> bool:
    """Of those whom nobody misses where they are, one after the other goes: by lot."""
    steady = {held.peer: held.steady for held in seen.spans}
    held = [0] * len(members[0].ends)
    for one in members:
        if one.at is not None and steady.get(one.name, True):
            for layer in range(one.at.start, one.at.end):
                held[layer] += 1
    movers = [
        one.name
        for one, goal in zip(members, joint.spans, strict=True)
        if goal is not None
        and one.at is not None
        and goal != one.at
        and steady.get(one.name, True)
        and all(held[layer] > 1 or layer in goal for layer in range(one.at.start, one.at.end))
    ]
    return bool(movers) and min(movers, key=lambda name: turn(name, seen.window)) == seen.me


def _as_member(held: Held, weights: Sequence[float]) -> Member:
    work = held.rate * sum(weights[held.span.start : held.span.end])
    return Member(held.peer, held.ends, work, held.span)


def _newcomer(hand: Hand, weights: Sequence[float], me: PeerId) -> Member:
    whole = Span(0, len(weights))
    return Member(me, tuple(hand.ends), STRANGER * hand.rate(whole) * sum(weights))


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
    if not seen.holes:
        return 0
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
    strong, weak = (min(range(one.start, one.end), key=seen.rates.__getitem__) for one in (now, span))
    apart = seen.rates[strong] - seen.rates[weak]
    blur = math.hypot(seen.blur[strong], seen.blur[weak]) if seen.blur else 0.0
    away = hand.away(span)
    return (
        apart > TOLERANCE * mean + SURE * blur
        and (after - before) * (hand.stay - away) > MARGIN * here * away
    )
