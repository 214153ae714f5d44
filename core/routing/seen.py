"""What this reader has seen of donors against what they claim of themselves. Pure, over a clock.

Nobody but the readers of a route learns whether a donor is as fast as its record says, and they see the time
of a whole round alone. So each answer is one equation: the layers that each stage ran, times what each takes
for a layer, plus the ways between them, make the time of a round. What is known of each donor is a number
with an uncertainty, at first its claim; a round that takes longer than all claims together moves the number
of each in proportion to what is uncertain about it (a Kalman filter with a diagonal covariance: R. E. Kalman,
1960). A claim far beyond what is usual is the first to be doubted. Over a few answers through different
donors the one that boasts stands out.

What slows all donors alike is this PC or its line, and held against none of them.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from core.routing.route import layer_seconds
from core.routing.suspects import Suspects
from core.terms import DonorState, PeerId, Record

USUAL_ERROR = 0.3
"""Honest claims are wrong by this part."""
USUAL = 2.5
"""A claim more than so many times faster than the middle one of all is doubted the more."""
STEP_ERROR, WAY_ERROR = 0.2, 0.3
"""By these parts each step and each way differ from what is expected, each for itself;"""
ROUND_SECONDS = 0.01
"""and by so much the whole round."""
DOUBT = 2.0
"""Who takes less than so many times what it claims is taken at its word,"""
DOUBT_SECONDS = 0.01
"""and who loses no more than this by it."""
KNOWN = 0.5
"""A number is known where it is uncertain by no more than this part of itself."""
FORGET_SECONDS = 6 * 3600.0
"""What was seen counts half after so long, and nothing after twice that."""
REMEMBERED = 4096
LEAST_ROUNDS = 8
"""An answer of fewer rounds says nothing of speed."""
UNKNOWN = 0.5
"""Trust in a donor that nothing is known of."""
BELIEVED = 0.25
"""Who is trusted less serves nothing, as far as this reader knows."""
SILENT, WRONG = 0.5, 1.0
"""What a failure counts that may have been the network's, and one that was surely the donor's;"""
MOST_FAILED = 4.0
"""and what all count together: a reader who waits tries again and again, and one answer makes it good."""


@dataclass(frozen=True)
class Part:
    """A stage of an answer: how many layers it ran, what one was to take by its claim and by what else it
    had to do, and the claim itself."""

    peer: PeerId
    layers: int
    claimed: float
    load: float = 1.0


@dataclass
class _Known:
    """``seconds`` a layer, with their variance; how often it served and failed; when that was changed."""

    seconds: float
    variance: float
    at: float
    claimed: float
    timed: bool = False
    served: float = 0.0
    failed: float = 0.0

    @property
    def slow(self) -> float | None:
        """How many times slower than it claims, where that was seen."""
        return self.seconds / self.claimed if self.timed and self.claimed > 0 else None


class Seen:
    """``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[PeerId, _Known] = OrderedDict()
        self._slow: list[float] | None = None
        """How many times slower than they claim all were, sorted; None after any has changed."""

    def timed(self, parts: Sequence[Part], ways: float, took: float, usual: float) -> None:
        """Rounds over these stages took so many seconds, ``ways`` of them between donors; ``usual`` is what
        the middle one of all donors claims for a layer."""
        known = [self._of(part.peer, part.claimed, usual) for part in parts]
        runs = [part.layers * part.load for part in parts]
        error = took - ways - sum(one.seconds * run for one, run in zip(known, runs, strict=True))
        spread = sum(one.variance * run * run for one, run in zip(known, runs, strict=True))
        spread += sum((STEP_ERROR * one.seconds * run) ** 2 for one, run in zip(known, runs, strict=True))
        spread += (WAY_ERROR * ways) ** 2 / len(parts) + ROUND_SECONDS**2
        for one, run in zip(known, runs, strict=True):
            gain = one.variance * run / spread
            one.seconds = max(one.seconds + gain * error, 0.0)
            one.variance *= 1 - gain * run
            one.timed = True

    def served(self, peers: Collection[PeerId]) -> None:
        """They gave an answer."""
        for peer in peers:
            self._of(peer, None).served += 1

    def failed(self, peer: PeerId, *, heals: bool) -> None:
        """This one did not; ``heals``: it was only not heard."""
        one = self._of(peer, None)
        one.failed = min(one.failed + (SILENT if heals else WRONG), MOST_FAILED)

    def trust(self, peer: PeerId) -> float:
        """From 0 to ``UNKNOWN``: less, the more often it failed of late than it served."""
        one = self._fresh(peer)
        if one is None:
            return UNKNOWN
        return min(UNKNOWN, (1 + one.served) / (2 + one.served + one.failed))

    def met_at(self, peer: PeerId) -> float:
        """When it served or failed last; minus infinity where nothing is known of it."""
        one = self._fresh(peer)
        return one.at if one is not None else -math.inf

    def in_doubt(self, peer: PeerId) -> bool:
        """Whether it failed more often than it served, and is believed yet."""
        one = self._fresh(peer)
        return one is not None and one.failed > one.served and self.trust(peer) >= BELIEVED

    def proved(self, peer: PeerId) -> bool:
        """Whether it was seen to be about as fast as it says: the number is near, and known well enough."""
        one = self._fresh(peer)
        if one is None or not one.timed:
            return False
        near = one.seconds <= DOUBT * self._common(peer) * one.claimed
        return near and math.sqrt(one.variance) <= KNOWN * one.seconds

    def believed(self, records: Collection[Record]) -> tuple[Record, ...]:
        """The records as this reader takes them: with the time that was seen, where that is far more than
        is claimed."""
        return tuple(map(self._believed, records))

    def _believed(self, record: Record) -> Record:
        one = self._fresh(record.peer_id)
        if one is None or not one.timed:
            return record
        claimed, layers = layer_seconds(record), len(record.span)
        seconds = one.seconds / self._common(record.peer_id)
        if seconds <= DOUBT * claimed or (seconds - claimed) * layers <= DOUBT_SECONDS:
            return record
        return replace(record, step_seconds=seconds * layers)

    def _common(self, but: PeerId) -> float:
        """How many times slower than they claim the others were: the lower middle one."""
        if self._slow is None:
            self._slow = sorted(part for known in self._known.values() if (part := known.slow) is not None)
        slow, one = self._slow, self._known.get(but)
        own = one.slow if one is not None else None
        others = len(slow) - (own is not None)
        if not others:
            return 1.0
        middle = (others - 1) // 2
        if own is not None and bisect_left(slow, own) <= middle:
            middle += 1  # it stands before that itself
        return max(1.0, slow[middle])

    def _fresh(self, peer: PeerId) -> _Known | None:
        one = self._known.get(peer)
        return one if one is not None and self._clock() - one.at < 2 * FORGET_SECONDS else None

    def _of(self, peer: PeerId, claimed: float | None, usual: float = 0.0) -> _Known:
        """What is known of one that is about to be told something."""
        now, one = self._clock(), self._fresh(peer)
        self._slow = None
        if one is None:
            one = _Known(0.0, 0.0, now, 0.0)
        faded = 0.5 ** ((now - one.at) / FORGET_SECONDS)
        one.served, one.failed, one.at = one.served * faded, one.failed * faded, now
        if claimed is not None:
            doubt = (USUAL_ERROR * claimed) ** 2 + max(0.0, usual - USUAL * claimed) ** 2
            if not one.timed:
                one.seconds, one.variance = claimed, doubt
            # What it does may have changed since, and a new claim may be true.
            one.variance = faded * one.variance + (1 - faded) * doubt
            one.claimed = claimed
        self._known[peer] = one
        self._known.move_to_end(peer)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return one


class Experience:
    """All that a reader has learnt of donors: ``suspects`` of a moment ago, and what was seen over hours."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.suspects, self.seen = Suspects(clock), Seen(clock)

    def failed(self, peer: PeerId, *, heals: bool = True) -> None:
        self.suspects.failed(peer, heals=heals)
        self.seen.failed(peer, heals=heals)

    def answered(
        self, parts: Sequence[Part], rounds: int, ways: float, took: float, records: Collection[Record]
    ) -> None:
        """An answer of so many rounds ended well, over donors among these ``records``."""
        self.seen.served({part.peer for part in parts})
        if rounds >= LEAST_ROUNDS:
            self.seen.timed(parts, ways, took, usual(records))

    def trust(self, peer: PeerId) -> float:
        """What this donor's word counts (``core.serving.levels.Opinion``)."""
        return 0.0 if self.suspects.distrusts(peer) else self.seen.trust(peer)

    def proved(self, peer: PeerId) -> bool:
        """Whether this donor is as fast as it says (``core.serving.levels.Opinion``)."""
        return self.seen.proved(peer)

    def rank(self, peer: PeerId) -> float:
        """How many times slower it is taken to be for what it failed in."""
        return UNKNOWN / max(self.seen.trust(peer), 0.01)


def usual(records: Collection[Record]) -> float:
    """What the middle one of these donors claims for a layer."""
    online = [layer_seconds(record) for record in records if record.state is DonorState.ONLINE]
    return statistics.median(online) if online else 0.0


class Pace:
    """The time of an answer's rounds: between two arrivals of what the tail drew."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Over a route from now on; what another one took counts no more."""
        self._at: float | None = None
        self._rounds: list[float] = []

    def drawn(self) -> None:
        now = self._clock()
        if self._at is not None:
            self._rounds.append(now - self._at)
        self._at = now

    @property
    def rounds(self) -> int:
        return len(self._rounds)

    @property
    def seconds(self) -> float:
        """The middle one."""
        return statistics.median(self._rounds) if self._rounds else 0.0
