"""How fast this donor sends, measured on the prompts that it sends on anyway. Pure: the caller has the clock.

A busy time begins when a frame leaves while none is under way, and ends when all were received. Its bytes
over its seconds, less the way there and back, are what the upload gave. A stage that is slow to *run*
does not count: frames are acknowledged as received on arrival. Nor does one that is frozen or cut off, or
that is slow to acknowledge: time in which the wire carried nothing is taken off. Else a neighbour that stood
still for three seconds would leave this donor with a cap of a few kilobytes a second, and all its readers
waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from core.terms import PeerId

LEAST_BYTES = 64 << 10
"""Of a busy time that says anything."""
LEAST_SECONDS = 0.5
"""Shorter ones tell only that the upload is no slower: acknowledgements wait for each other, and for a busy
PC."""
GIVEN_UP_SECONDS = 30.0
"""What was not acknowledged by then never will be."""
FASTEST = 1.25e9
MOST_SLOWER = 16.0
"""A link that does not carry what it is given is taken for at most so many times as slow, at a time."""
ASSUMED = 12.5e6
"""Bytes a second until measured."""
MOST_ON_THE_WAY = 16 << 20
SUSTAINED_SECONDS, SUSTAINED_BYTES = 2.0, 1_000_000
"""What was sent for less long, or is less, tells of TCP's slow start, not of what the link can do;"""
SUSTAINED_TIMES, SUSTAINED_FOR = 60.0, 600.0
"""and after so many times as long, at most so many seconds, it is measured anew: what a cap held up could not
show more than the cap, and what was measured for a few seconds may be far below the link."""
STRETCH_SECONDS = 1.0
"""The shortest stretch of a busy time that tells what the link carries."""
SLOWER_SECONDS, SLOWER_TIMES = 4.0, 2.0
"""A link whose best stretch in so long is so many times below what was measured has become slower."""
WEIGHT = 0.3
"""Of a lower measurement against the average of those before. A higher one is believed at once: so much did
arrive."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where the frames of one session go: their hops have no gaps there."""

    remote: PeerId
    session: bytes
    stage: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Carried:
    """What the wire has brought to the other ends in the last ``seconds``; ``silent``: nothing of prompts."""

    arrived: int
    seconds: float
    silent: bool
    now: float


class Upload:
    """``rate`` is bytes a second, 0 until measured. ``round_trip`` tells the seconds there and back to a
    peer, ``None`` where they are not known."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.sustained = 0.0
        """The same, of what was sent for seconds on end: what a part of may be set aside as a cap. A cap from
        a short burst would be far below the link, and what it holds back measures nothing any more."""
        self.round_trip: Callable[[PeerId], float | None] = lambda _peer: None
        self._under_way: dict[tuple[Way, int], int] = {}
        self._since = 0.0
        self._bytes = 0
        self._spoilt = False
        self._silent = 0.0
        self._trusted_until = 0.0
        self._carried: deque[Carried] = deque()
        """Within the busy time, of the last ``STRETCH_SECONDS``."""
        self._best = 0.0
        """Bytes a second in the best stretch of the busy time."""
        self._stretches: deque[float] = deque()
        """Those of late, as long as the wire was not silent."""

    def on_the_way(self, remote: PeerId) -> int:
        """Bytes that keep the wire to a peer busy until word of the first is back: twice what was measured
        in a round trip, since a measurement may have been held back by this very limit."""
        rate = 2 * self.rate or ASSUMED
        return min(int(rate * (self.round_trip(remote) or 0.0)), MOST_ON_THE_WAY)

    def sent(self, way: Way, hop: int, size: int, now: float) -> None:
        """A frame of ``size`` bytes is to leave."""
        if now - self._since > GIVEN_UP_SECONDS:
            self._under_way.clear()
        if not self._under_way:
            self._since, self._bytes, self._spoilt, self._silent = now, 0, False, 0.0
            self._best = 0.0
            self._carried.clear()
            self._stretches.clear()
        self._under_way[way, hop] = size
        self._bytes += size

    def received(self, way: Way, upto: int, now: float) -> None:
        """Frames up to hop ``upto`` have arrived."""
        arrived = {(to, hop) for to, hop in self._under_way if to == way and hop <= upto}
        if not arrived:
            return
        for one in arrived:
            del self._under_way[one]
        if not self._under_way and not self._spoilt and self._bytes >= LEAST_BYTES:
            self._measured(now - self._since - self._silent - (self.round_trip(way.remote) or 0.0), now)

    def held_up(self) -> None:
        """By a cap of the owner's: this busy time tells nothing."""
        self._spoilt = True

    def carried(self, carried: Carried) -> None:
        """What the wire tells, whatever is under way."""
        if not self._under_way:
            return
        if carried.silent:
            self._silent += min(carried.seconds, carried.now - self._since)
            self._stretches.clear()
        if carried.now - carried.seconds < self._since:
            return  # some of it is of before
        self._carried.append(carried)
        taken = sum(one.seconds for one in self._carried)
        if taken >= STRETCH_SECONDS:
            stretch = sum(one.arrived for one in self._carried) / taken
            self._best = max(self._best, stretch)
            self._stretches.append(stretch)
            self._carried.popleft()
            if len(self._stretches) * carried.seconds >= SLOWER_SECONDS:
                self._follow(max(self._stretches))
                self._stretches.popleft()

    def _follow(self, best: float) -> None:
        """No second of the last few has carried more, though there was something to carry all the time: not
        only at its end does a long prompt show that the link has become slower."""
        if best * SLOWER_TIMES < self.rate and not self._spoilt:
            self.rate = max(best, self.rate / MOST_SLOWER)
            self.sustained = min(self.sustained, self.rate)

    def cap_base(self, now: float) -> float:
        """What a part of may be set aside as a cap, 0 where that is not known or not known any more."""
        return self.sustained if now <= self._trusted_until else 0.0

    def lost(self, remote: PeerId) -> None:
        """What is under way to this peer may never be acknowledged."""
        gone = [(way, hop) for way, hop in self._under_way if way.remote == remote]
        for one in gone:
            del self._under_way[one]
            self._spoilt = True

    def stuck(self, remote: PeerId, now: float) -> None:
        """What is under way to this peer does not get there, and neither did a word that was sent after it.
        Where some of it did, the link has become slower than was measured, and was given more than it
        carries: that would go on for ever, since what is lost measures nothing."""
        left = sum(size for (way, _), size in self._under_way.items() if way.remote == remote)
        arrived, seconds = self._bytes - sum(self._under_way.values()), now - self._since - self._silent
        if left and arrived >= LEAST_BYTES and seconds >= LEAST_SECONDS and not self._spoilt:
            self.rate = min(self.rate, max(arrived / seconds, self.rate / MOST_SLOWER))
        self.lost(remote)

    def _measured(self, seconds: float, now: float) -> None:
        rate = self._bytes / max(seconds, self._bytes / FASTEST)
        if seconds < LEAST_SECONDS:
            self.rate = max(self.rate, rate) if self.rate else 0.0
            return
        rate = max(rate, self._best)
        self.rate = max(rate, (1 - WEIGHT) * self.rate + WEIGHT * rate)
        if seconds >= SUSTAINED_SECONDS and self._bytes >= SUSTAINED_BYTES:
            self.sustained = max(self.cap_base(now), rate)
            self._trusted_until = now + min(SUSTAINED_TIMES * seconds, SUSTAINED_FOR)
