"""What a swarm's records say of its layers, for the choice of a place (``core.serving.choose``). Pure.

Claims are not believed at once: each counts as much as its peer is trusted, and none for more than a few
times what is usual. Everyone computes whose turn it is to move from the same records, and of those that are
about to go who counts on whom, so two donors of a layer do not leave it in the same moment.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.swarm.crowded import part_seen
from core.swarm.records import BAND_LAYERS
from core.terms import DonorState, PeerId, Record, Span

LAYER_SECONDS = 0.001
"""Assumed for a layer of a donor that has not measured itself yet."""
FASTEST = 1e-6
"""No layer takes less, whatever is claimed."""
STRANGER = 0.5
"""Trust in a peer that nobody here has used yet. All strangers are discounted alike: it changes what
they weigh beside peers that were seen, not beside each other."""
BELIEVED = 0.25
"""A layer is a hole where all its donors are trusted less than this."""
PLAUSIBLE = 4.0
"""Whoever claims more than so many times the median speed of a layer counts as the median until that was seen
to be true: no card in homes is that much faster than the middle one, so a claim that far out is most likely a
boast, and a layer that only boasters hold would seem strong."""
LEAST = 0.01
"""No span counts for less, in blocks."""
WINDOW_SECONDS = 60.0
"""Turns to move are dealt out anew so often."""
MOVERS = 0.01
"""The part of a swarm's donors that may move in one window, but at least one of them on average."""
HOLE_MOVERS = 3.0
"""How many donors may move in one window, on average, while there is a hole."""
CROWD = 64
"""Above so many donors each looks at a part of the places only, by chance: else all that join in one
minute would take the same."""
LATE = 120.0
"""A donor that is still joining so long after it expected to serve is not waited for."""
Ends = Callable[[Record], Sequence[int]]
"""The ends of the longest spans that fit a donor, as ``Hand.ends``: from what its record says."""


class Opinion(Protocol):
    """What this donor has learnt of others (``core.routing.seen.Experience``)."""

    def trust(self, peer: PeerId) -> float:
        """What this one's word counts, from 0 to 1."""

    def proved(self, peer: PeerId) -> bool:
        """Whether it was seen to be about as fast as it says."""


class _Strangers:
    def trust(self, _peer: PeerId) -> float:
        return STRANGER

    def proved(self, _peer: PeerId) -> bool:
        return False


STRANGERS: Opinion = _Strangers()
"""Nobody here has used anybody."""


@dataclass(frozen=True)
class Held:
    """What a donor holds or will, its steps a second through all of it: as it claims, within what is
    plausible, and ``surely`` at most as much as is usual; and the ends of what would fit it. ``steady``: it
    serves that and will not leave in this window."""

    peer: PeerId
    span: Span
    rate: float
    surely: float
    ends: tuple[int, ...]
    steady: bool = True


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
    """In a swarm of few donors: what each holds;"""
    own: Held | None = None
    """and what this one does, as the others see it."""
    me: PeerId = PeerId("")
    window: int = 0
    alone: bool = False
    """This donor counts on nobody else to move."""
    served: tuple[int, ...] = ()
    """How many serve each layer now, those that will leave included; empty where that is ``held``."""
    stays: tuple[tuple[PeerId, Span], ...] = ()
    """Who ``steady`` counts, with what each serves."""
    blur: tuple[float, ...] = ()
    """The standard error of ``rates``, where only a sample of the donors was seen; empty where all were."""

    @property
    def holes(self) -> int:
        return self.held.count(0)


def likely(claimed: float, typical: float, *, proved: bool = False) -> float:
    """What a claim counts, in layers a second."""
    return claimed if proved or claimed <= PLAUSIBLE * typical else typical


def turn(peer: PeerId, window: int) -> float:
    """This peer's lot for one window, from 0 to 1: the lowest move first."""
    digest = hashlib.sha256(f"{peer} {window}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def rank(peer: PeerId) -> float:
    """This peer's place among those that are about to go. It stays the same while they wait: records are
    seen late, and an order that changed in between would have two go who counted on each other."""
    return turn(peer, -1)


def share(holes: int, donors: int, movable: int) -> float:
    """The lots below which donors may move in one window. Never more than half of them: someone has to
    stay while others go."""
    movers = HOLE_MOVERS if holes else max(1.0, MOVERS * donors)
    return min(0.5, movers / max(movable, 1))


def levels(
    records: Iterable[Record],
    layers: int,
    me: PeerId,
    now: float,
    opinion: Opinion = STRANGERS,
    *,
    ends: Ends | None = None,
    weights: Sequence[float] = (),
) -> Levels:
    """What the others' records say at Unix time ``now``. A donor that fetches other layers counts for
    those: it goes there; but nobody leaves a layer to one that does not serve it yet.

    ``weights`` is what each layer costs, a block one: the head costs more, and who holds little else would
    seem slow, and could boast unnoticed."""
    counted = [record for record in records if _counts(record, now, layers)]
    typical = _typical([record for record in counted if record.peer_id != me], weights)
    rates = [0.0] * layers
    believed: list[Record] = []
    for record in counted:
        weight = max(0.0, min(1.0, opinion.trust(record.peer_id)))
        if record.peer_id == me or weight >= BELIEVED:
            believed.append(record)
        if record.peer_id != me:
            proved = opinion.proved(record.peer_id)
            rate = likely(_layer_rate(record, weights), typical, proved=proved)
            rate *= weight / _work(_goal(record), weights)
            for layer in range(_goal(record).start, _goal(record).end):
                rates[layer] += rate
    # With the own record: only so does everyone come to the same lots.
    held = _held(map(_goal, believed), layers)
    movable = [one for one in believed if min(held[_goal(one).start : _goal(one).end]) > 1]
    limit, window = share(held.count(0), len(believed), len(movable)), int(now // WINDOW_SECONDS)
    going = {one.peer_id for one in movable if turn(one.peer_id, window) < limit}
    others = [one for one in believed if one.peer_id != me]
    serving = [one for one in others if one.state is DonorState.ONLINE]
    staying = [one for one in serving if one.peer_id not in going and _stays(one, rank(me))]
    small = len(believed) <= CROWD
    known = _known(believed, layers, opinion, ends, weights) if small else []
    return Levels(
        tuple(rates),
        tuple(_held(map(_goal, others), layers)),
        tuple(_held((one.span for one in staying), layers)),
        len(others),
        limit,
        tuple(held for held in known if held.peer != me),
        next((held for held in known if held.peer == me), None),
        me,
        window,
        served=tuple(_held((one.span for one in serving), layers)),
        stays=tuple((one.peer_id, one.span) for one in staying),
        blur=() if small else _blur(others, layers, opinion, typical, weights),
    )


def _blur(
    others: Sequence[Record], layers: int, opinion: Opinion, typical: float, weights: Sequence[float]
) -> tuple[float, ...]:
    """By band: of a sample without repeats each donor's rate varies the sum by its square, as far as others
    were not seen."""
    variance = [0.0] * layers
    found = [0] * -(-layers // BAND_LAYERS)
    for record in others:
        goal = _goal(record)
        rate = likely(_layer_rate(record, weights), typical, proved=opinion.proved(record.peer_id))
        rate *= opinion.trust(record.peer_id) / _work(goal, weights)
        square = rate * rate
        for layer in range(goal.start, goal.end):
            variance[layer] += square
        for band in range(goal.start // BAND_LAYERS, (goal.end - 1) // BAND_LAYERS + 1):
            found[band] += 1
    unseen = [1 - part_seen(count) for count in found]
    return tuple(math.sqrt(unseen[layer // BAND_LAYERS] * one) for layer, one in enumerate(variance))


def _known(
    believed: Sequence[Record], layers: int, opinion: Opinion, ends: Ends | None, weights: Sequence[float]
) -> list[Held]:
    typical, known = _typical(believed, weights), []
    for one in sorted(believed, key=lambda record: record.peer_id):
        claimed, goal = _layer_rate(one, weights), _goal(one)
        part, proved = opinion.trust(one.peer_id) / _work(goal, weights), opinion.proved(one.peer_id)
        length = len(one.span)
        fitting = ends(one) if ends else [min(layer + length, layers) for layer in range(layers)]
        serves = one.state is DonorState.ONLINE and one.going is None
        known.append(
            Held(
                one.peer_id,
                goal,
                part * likely(claimed, typical, proved=proved),
                part * (claimed if proved else min(claimed, typical)),
                tuple(fitting),
                serves,
            )
        )
    return known


def _goal(record: Record) -> Span:
    return record.going or record.span


def _stays(record: Record, mine: float) -> bool:
    """Whether one that serves goes on with that while this donor, whose rank is ``mine``, goes: of those
    that are about to go each counts only on those that rank above it, and none on one that counts on it."""
    return record.going is None or rank(record.peer_id) > mine


def _held(spans: Iterable[Span], layers: int) -> list[int]:
    held = [0] * layers
    for span in spans:
        for layer in range(span.start, span.end):
            held[layer] += 1
    return held


def _counts(record: Record, now: float, layers: int) -> bool:
    if max(record.span.end, _goal(record).end) > layers or record.state is DonorState.LEAVING:
        return False
    if record.state is DonorState.JOINING:
        return now < record.started_at + record.expected_online + LATE
    return True


def _layer_rate(record: Record, weights: Sequence[float]) -> float:
    """Layers a second, as claimed."""
    work = _work(record.span, weights)
    return work / max(record.step_seconds or LAYER_SECONDS * work, FASTEST * work)


def _work(span: Span, weights: Sequence[float]) -> float:
    """In layers that cost as much as a block; the words alone cost next to nothing."""
    return max(sum(weights[span.start : span.end]), LEAST) if weights else float(len(span))


def _typical(records: Sequence[Record], weights: Sequence[float]) -> float:
    return statistics.median(_layer_rate(record, weights) for record in records) if records else 0.0
