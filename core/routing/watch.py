"""When a ring's silence is too long, and who is to blame: pure, over a clock and what stages said.

A stage that ends closes its streams, which is noticed at once. One that hangs, or whose network is
gone, only stays silent. So when nothing was heard for a few of the ring's own steps, every stage is
probed; who does not answer in two round trips and a little is lost. When all answer and nothing
moves, either a stage's step does not end, or what one sends does not reach the next.

How little that is, is measured: PCs that are busy answer late, and so do we. What a donor's answers have
taken beyond its round trip of late counts three times, but that is its own affair and bounded: a replica may
be quicker, and who was frozen once shall not be waited for long when it freezes again. What several donors
were late by together counts for all of them, and what this reader overslept counts too. Each silence that was
blamed without a token since doubles the least that the next may take. So who is only short of processor time
is not taken for dead, and who is dead is found soon whatever was late before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.routing.lateness import Lateness
from core.swarm.messages import Pulse
from core.terms import PeerId

STEPS = 4
"""A silence of so many of the ring's own steps is suspicious,"""
LEAST_SECONDS = 0.25
"""but none shorter than this,"""
FIRST_SECONDS = 1.0
"""and this one before there is a step to compare with."""
ANSWER_SECONDS = 0.25
"""Beyond two round trips, what a probe's answer may take at least,"""
MOST_DOUBT = 8.0
"""(so many times as long after silences that were blamed in vain),"""
LATE_TIMES = 3
"""or so many times what answers have lately been late,"""
LONGEST_ANSWER = 1.5
"""up to this many seconds,"""
LONGEST_SHARED = 15.0
"""or these, where several donors are that late."""
STUCK_SECONDS = 1.0
"""For so long, with no step waiting or under way anywhere, a token's frame is concluded to be lost;"""
ROW_SECONDS = 0.05
"""and so much longer for each row of a prompt that is on its way: 28.7 KB at 5 Mbit/s."""
HUNG_SECONDS = 20.0
"""For so long a step may wait or run before its stage is concluded to hang."""


class Line(Protocol):
    """What is known of the way to a stage."""

    @property
    def remote(self) -> PeerId:
        """Whose it is."""

    @property
    def round_trip(self) -> float:
        """Seconds there and back."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class AskAll:
    """Send every stage a probe of this number."""

    number: int


@dataclass(frozen=True)
class Blame:
    """The stage of this index is to be replaced."""

    stage: int
    why: str
    silent: bool = False
    """It was only not heard: that it is heard again shows that it is well."""


@dataclass
class _Round:
    """A probe under way."""

    number: int
    sent_at: float
    lines: tuple[Line, ...]
    round_trips: tuple[float, ...]
    answered: set[int] = field(default_factory=set)


class Watch:
    """Over one session. ``clock`` gives seconds; ``check`` says what to do now. ``lateness`` is what all
    sessions of this client learn together."""

    def __init__(self, clock: Callable[[], float], lateness: Lateness | None = None) -> None:
        self._clock = clock
        self._lateness = lateness or Lateness(clock)
        self._step = 0.0
        self._number = 0
        self._overslept = 0.0
        """By how much this reader looked later than it meant to, of late."""
        self._doubt = 1.0
        """How many times as long a silence may last, after some that were blamed without a token since."""
        self._stuck: set[PeerId] = set()
        """Whose frames have not arrived somewhere since the last token."""
        self.begin()

    def begin(self) -> None:
        """A new answer, or a new route: silence counts from now."""
        self._heard_at = self._moved_at = self._clock()
        self._look_at = float("inf")
        self._token_at: float | None = None
        self._round: _Round | None = None
        self._pulses: dict[int, Pulse] = {}

    def heard(self) -> None:
        """Anything came from a stage."""
        self._heard_at = self._clock()

    def token(self) -> None:
        """A token came: the ring has moved."""
        now = self._clock()
        if self._token_at is not None:
            took = now - self._token_at
            # What a stall took is no step.
            self._step = 0.8 * self._step + 0.2 * min(took, STEPS * self._step) if self._step else took
        self._token_at = self._moved_at = now
        self._doubt = 1.0
        self._stuck.clear()
        self._pulses.clear()

    def pulse(self, pulse: Pulse) -> None:
        """A stage answered a probe."""
        now = self._clock()
        before = self._pulses.get(pulse.stage)
        self._pulses[pulse.stage] = pulse
        if before is None or (pulse.ran, pulse.length) != (before.ran, before.length):
            self._moved_at = now
        asked = self._round
        if asked is not None and pulse.number == asked.number and pulse.stage not in asked.answered:
            asked.answered.add(pulse.stage)
            if pulse.stage < len(asked.round_trips):
                late = now - asked.sent_at - asked.round_trips[pulse.stage]
                self._lateness.answered(asked.lines[pulse.stage].remote, late)

    def blamed(self) -> None:
        """A silence was blamed on someone: perhaps in vain, and the next gets longer."""
        self._doubt = min(2 * self._doubt, MOST_DOUBT)

    def due(self, line: Line) -> float:
        """Seconds within which an answer over this line must come."""
        return 2 * line.round_trip + self._answer_seconds(line)

    def check(self, stages: Sequence[Line]) -> Wait | AskAll | Blame:
        """To be called again when the time it says is over, or something was heard."""
        now = self._clock()
        if now > self._look_at:  # what could not be heard meanwhile was no silence
            missed = now - self._look_at
            self._overslept = max(missed, 0.8 * self._overslept)
            self._heard_at = min(self._heard_at + missed, now)
            self._moved_at = min(self._moved_at + missed, now)
        found = self._check(stages, now)
        if isinstance(found, Blame) and found.silent:
            self.blamed()
        self._look_at = now + found.seconds if isinstance(found, Wait) else float("inf")
        return found

    def _check(self, stages: Sequence[Line], now: float) -> Wait | AskAll | Blame:
        if self._round is not None and len(self._round.answered) < len(stages):
            return self._overdue(self._round, stages, now)
        self._round = None
        if len(self._pulses) == len(stages):
            still = now - self._moved_at
            busy = [n for n, p in sorted(self._pulses.items()) if p.running or p.length > p.ran]
            if busy and still > max(HUNG_SECONDS, 5 * STEPS * self._step):
                return Blame(busy[0], "its step does not end")
            behind, rows = self._behind()
            lost = STUCK_SECONDS if self._token_at is not None else _sending_seconds(rows)
            lost += LATE_TIMES * self._lateness.shared
            if not busy and still > max(lost, STEPS * self._step):
                return self._between(stages, behind)
        patience = max(LEAST_SECONDS, STEPS * self._step) if self._step else FIRST_SECONDS
        if now - self._heard_at < patience:
            return Wait(self._heard_at + patience - now + 0.001)
        self._number += 1
        self._round = _Round(self._number, now, tuple(stages), tuple(line.round_trip for line in stages))
        return AskAll(self._number)

    def _between(self, stages: Sequence[Line], behind: int) -> Blame:
        """What one sends does not reach the next: that is left, since it may have a replica that is reached;
        but who has sent to two in vain is left itself."""
        sender = (behind - 1) % len(stages)
        if stages[sender].remote in self._stuck:
            return Blame(sender, "what it sends does not arrive")
        self._stuck.add(stages[sender].remote)
        return Blame(behind, "what is sent to it does not arrive")

    def _overdue(self, asked: _Round, stages: Sequence[Line], now: float) -> Wait | Blame:
        """Where nobody answers, it may be this reader's own network or PC: they get twice the time."""
        times = 2 if not asked.answered and len(stages) > 1 else 1
        due = {
            index: asked.sent_at + times * self.due(line)
            for index, line in enumerate(stages)
            if index not in asked.answered
        }
        first = min(due, key=lambda index: due[index])
        if now >= due[first]:
            return Blame(first, "it does not answer", silent=True)
        return Wait(due[first] - now + 0.001)

    def _answer_seconds(self, line: Line) -> float:
        least = ANSWER_SECONDS * self._doubt
        own = min(max(LATE_TIMES * self._lateness.of(line.remote), self._step), LONGEST_ANSWER)
        shared = min(LATE_TIMES * self._lateness.shared, LONGEST_SHARED)
        return max(least, own, shared) + self._overslept

    def _behind(self) -> tuple[int, int]:
        """The first stage that has not accepted what the one before it has run, and how many rows that are;
        the entry, which lacks what the tail drew, if there is none. A stage that has not heard of a
        truncation yet may hold more than the one before: what it lacks then is the frame that truncates."""
        for stage in range(1, len(self._pulses)):
            one, other = self._pulses[stage - 1], self._pulses[stage]
            if (one.rollback, one.ran) > (other.rollback, other.length):
                return stage, max(one.ran - other.length, 1)
        return 0, 1


def _sending_seconds(rows: int) -> float:
    return min(STUCK_SECONDS + ROW_SECONDS * rows, HUNG_SECONDS)
