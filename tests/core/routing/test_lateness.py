"""Whose lateness it is."""

from __future__ import annotations

from core.routing.lateness import LATELY, Lateness
from core.terms import PeerId


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_what_most_donors_are_late_by_is_this_pcs_doing() -> None:
    """The middle one tells; one that is later than the others is not excused by them."""
    lateness = Lateness(Clock())
    for name, late in (("a", 0.6), ("b", 4.0), ("c", 0.5)):
        lateness.answered(PeerId(name), late)
    assert lateness.shared == 0.6


def test_one_donors_lateness_is_its_own() -> None:
    """Whether it is alone, or others answer in time."""
    lateness = Lateness(Clock())
    lateness.answered(PeerId("a"), 3.0)
    assert lateness.shared == 0.0
    for name in "bcd":
        lateness.answered(PeerId(name), 0.001)
    assert lateness.shared < 0.01


def test_lateness_is_forgotten() -> None:
    """By answers that come in time again, and by silence."""
    clock = Clock()
    lateness = Lateness(clock)
    for name in "ab":
        lateness.answered(PeerId(name), 1.0)
    for _ in range(8):
        for name in "ab":
            lateness.answered(PeerId(name), 0.0)
    assert lateness.shared < 0.01
    lateness.answered(PeerId("a"), 1.0)
    lateness.answered(PeerId("b"), 1.0)
    clock.now += LATELY + 1
    assert lateness.shared == 0.0
