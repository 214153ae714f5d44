from __future__ import annotations

import pytest

from webchat.refusals import Refusal
from webchat.turnstile import Pace, Turnstile


def test_places_are_counted_and_given_back() -> None:
    """An answer more than there are places is refused; errors give places back too."""
    turnstile = Turnstile(3)
    with turnstile.answers(2):
        with pytest.raises(Refusal, match="2 answers"), turnstile.answers(2):
            pass
        with turnstile.answers(1):
            pass
    with pytest.raises(ZeroDivisionError), turnstile.answers(3):
        raise ZeroDivisionError
    with turnstile.answers(3):
        pass


def test_a_pace_allows_a_burst_then_its_rate() -> None:
    """Time alone gives more."""
    now = 0.0
    pace = Pace(2, 3, lambda: now)
    assert [pace.allows() for _ in range(4)] == [True, True, True, False]
    now = 0.5
    assert [pace.allows() for _ in range(2)] == [True, False]
