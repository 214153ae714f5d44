from __future__ import annotations

from core.node.troubles import with_trouble
from core.terms import Because, Reason, State, Status

LOST = Because(Reason.NO_MEETING_POINT)


def test_trouble_in_the_network_is_shown_where_it_matters() -> None:
    """Over giving and over being off; the owner's own pause is not hidden by it."""
    giving, off = Status("1", State.GIVING), Status("1", State.OFF, Because(Reason.NO_CONSENT))
    paused = Status("1", State.PAUSED, Because(Reason.PAUSED))
    assert with_trouble(giving, None) == giving
    assert with_trouble(giving, LOST) == Status("1", State.TROUBLE, LOST)
    assert with_trouble(off, LOST) == Status("1", State.OFF, LOST)
    assert with_trouble(paused, LOST) == paused
