"""How late donors answer, and whether that is because of this reader's own PC or network. Pure, over a clock.

One donor that answers late is busy, or dying. When most of those asked of late do, what they have in common
is this PC: it is short of processor time, or its line is full. Then none of them is to blame, and all get as
much longer as the middle one of them was late. All sessions of a client learn from each other.
"""

from __future__ import annotations

from collections.abc import Callable

from core.terms import PeerId

LATELY = 20.0
"""Seconds for which an answer counts."""


class Lateness:
    """``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._late: dict[PeerId, tuple[float, float]] = {}
        """By donor: when it answered last, and how late it was of late."""

    def answered(self, donor: PeerId, late: float) -> None:
        """A donor answered ``late`` seconds after a round trip."""
        _, before = self._late.get(donor, (0.0, 0.0))
        self._late[donor] = self._clock(), max(late, 0.5 * before)

    def of(self, donor: PeerId) -> float:
        """Seconds by which this donor was late of late."""
        told = self._late.get(donor)
        return told[1] if told is not None and self._clock() - told[0] <= LATELY else 0.0

    @property
    def shared(self) -> float:
        """Seconds by which the middle one of the donors was late of late; 0 while only one was heard."""
        now = self._clock()
        self._late = {donor: told for donor, told in self._late.items() if now - told[0] <= LATELY}
        late = sorted(late for _, late in self._late.values())
        return late[(len(late) - 1) // 2] if len(late) > 1 else 0.0
