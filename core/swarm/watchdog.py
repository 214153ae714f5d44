"""When the network underneath needs help, judged from what can be seen every few seconds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from core.terms import Because, Reason

ASLEEP_SECONDS = 2.0
"""The clock that counts sleep is ahead of the one that does not by more: the PC slept."""
CLOCK_SECONDS = 3.0
"""Clocks that differ by more keep a peer's records from being believed."""
SET_SECONDS = 1.0
"""The clock has moved by more than time has: it was set, and meeting points tell whether that was right."""
SILENT = 2
"""So many looks in a row without an answer: the daemon hangs."""


@dataclass(frozen=True)
class Signs:
    """What is seen at one moment. Times are seconds: ``steady`` stands still while the PC sleeps,
    ``through_sleep`` does not."""

    steady: float
    through_sleep: float
    answers: bool
    """Whether the daemon answered."""
    wall: float = 0.0
    """Unix time, as this PC's clock has it."""
    places: frozenset[str] = frozenset()
    """This PC's own addresses beyond loopback."""
    connected: int = 0
    """Peers that there is a connection to."""
    admitted: bool = True
    """Whether meeting points that can be reached let this peer in."""
    behind: float = 0.0
    """Seconds that this PC's clock is behind its meeting points', as last told."""


class Do(Enum):
    NOTHING = "nothing"
    MEET = "meet"
    """The meeting points again."""
    TELL = "tell"
    """Others, of new addresses."""
    RENEW = "renew"
    """Start the daemon again: its connections are gone, or it is."""


class Watchdog:
    """``wide``: the peer listens beyond this PC. ``has_meeting_points``: it joined others, so that it is
    lost without them."""

    def __init__(self, *, wide: bool, has_meeting_points: bool) -> None:
        self._wide, self._has_meeting_points = wide, has_meeting_points
        self._before: Signs | None = None
        self._silent = 0
        self.why = ""
        """Of the last renewal, as a clause."""

    def judge(self, now: Signs) -> Do:
        """The most that has to be done."""
        before, self._before = self._before, now
        self._silent = 0 if now.answers else self._silent + 1
        if self._silent >= SILENT:
            return self._renew("it did not answer")
        if before is None:
            return Do.NOTHING
        slept = (now.through_sleep - before.through_sleep) - (now.steady - before.steady)
        if slept > ASLEEP_SECONDS:
            return self._renew("this PC slept")
        if self._wide and now.answers:
            if now.places and before.places - now.places:
                return self._renew("this PC's address changed")
            if now.places - before.places:
                return Do.MEET if self._has_meeting_points else Do.TELL
        passed = now.through_sleep - before.through_sleep
        was_set = self._has_meeting_points and abs(now.wall - before.wall - passed) > SET_SECONDS
        if now.answers and (was_set or self._lost(now) or not now.admitted):
            return Do.MEET
        return Do.NOTHING

    def trouble(self, now: Signs) -> Because | None:
        """What to tell the owner, if anything."""
        if self._wide and not now.places:
            return Because(Reason.NO_NETWORK)
        if now.answers and self._lost(now):
            return Because(Reason.NO_MEETING_POINT)
        if not now.admitted:
            return Because(Reason.NOT_ADMITTED)
        if abs(now.behind) > CLOCK_SECONDS:
            kind = Reason.CLOCK_BEHIND if now.behind > 0 else Reason.CLOCK_AHEAD
            return Because(kind, {"seconds": round(abs(now.behind))})
        return None

    def forget(self) -> None:
        """The daemon is new: what was seen of the one before does not count."""
        self._before, self._silent = None, 0

    def _lost(self, now: Signs) -> bool:
        return self._has_meeting_points and not now.connected

    def _renew(self, why: str) -> Do:
        self.why = why
        return Do.RENEW
