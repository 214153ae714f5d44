"""When a ring's silence is too long, and who is to blame: pure, over a clock and what stages said.

A stage that ends closes its streams, which is noticed at once. One that hangs, or whose network is
gone, only stays silent. So when nothing was heard for a few of the ring's own steps, every stage is
probed; who does not answer in two round trips and a little is lost. When all answer and nothing
moves, either a stage's step does not end, or what one sends does not reach the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.swarm.messages import Pulse

STEPS = 4
"""A silence of so many of the ring's own steps is suspicious,"""
LEAST_SECONDS = 0.25
"""but none shorter than this,"""
FIRST_SECONDS = 1.0
"""and this one before there is a step to compare with."""
ANSWER_SECONDS = 0.25
"""Beyond two round trips, what a probe's answer may take."""
STUCK_SECONDS = 1.0
"""For so long, with no step waiting or under way anywhere, a token's frame is concluded to be lost. A part of
a prompt may be on its way for as long as a step may take: 3.7 MB at 10 Mbit/s need 3 s."""
HUNG_SECONDS = 20.0
"""For so long a step may wait or run before its stage is concluded to hang."""


class Line(Protocol):
    """What is known of the way to a stage."""

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


@dataclass
class _Round:
    """A probe under way."""

    number: int
    sent_at: float
    answered: set[int] = field(default_factory=set)


class Watch:
    """Over one session. ``clock`` gives seconds; ``check`` says what to do now."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._step = 0.0
        self._number = 0
        self.begin()

    def begin(self) -> None:
        """A new answer, or a new route: silence counts from now."""
        self._heard_at = self._moved_at = self._clock()
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
            self._step = took if not self._step else 0.8 * self._step + 0.2 * took
        self._token_at = self._moved_at = now

    def pulse(self, pulse: Pulse) -> None:
        """A stage answered a probe."""
        now = self._clock()
        before = self._pulses.get(pulse.stage)
        self._pulses[pulse.stage] = pulse
        if before is None or pulse.ran != before.ran:
            self._moved_at = now
        if self._round is not None and pulse.number == self._round.number:
            self._round.answered.add(pulse.stage)

    def check(self, stages: Sequence[Line]) -> Wait | AskAll | Blame:
        now = self._clock()
        if self._round is not None and len(self._round.answered) < len(stages):
            return self._overdue(self._round, stages, now)
        self._round = None
        if len(self._pulses) == len(stages):
            still = now - self._moved_at
            busy = [n for n, p in sorted(self._pulses.items()) if p.running or p.length > p.ran]
            if busy and still > max(HUNG_SECONDS, 5 * STEPS * self._step):
                return Blame(busy[0], "its step does not end")
            lost = HUNG_SECONDS if self._token_at is None else STUCK_SECONDS
            if not busy and still > max(lost, STEPS * self._step):
                return Blame(self._behind(), "what is sent to it does not arrive")
        patience = max(LEAST_SECONDS, STEPS * self._step) if self._step else FIRST_SECONDS
        if now - self._heard_at < patience:
            return Wait(self._heard_at + patience - now + 0.001)
        self._number += 1
        self._round = _Round(self._number, now)
        return AskAll(self._number)

    def _overdue(self, asked: _Round, stages: Sequence[Line], now: float) -> Wait | Blame:
        due = {
            index: asked.sent_at + 2 * line.round_trip + ANSWER_SECONDS
            for index, line in enumerate(stages)
            if index not in asked.answered
        }
        first = min(due, key=lambda index: due[index])
        if now >= due[first]:
            return Blame(first, "it does not answer")
        return Wait(due[first] - now + 0.001)

    def _behind(self) -> int:
        """The first stage that has not accepted what the one before it has run; the entry, which lacks
        what the tail drew, if there is none."""
        for stage in range(1, len(self._pulses)):
            if self._pulses[stage - 1].ran > self._pulses[stage].length:
                return stage
        return 0
