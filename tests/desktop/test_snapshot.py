from __future__ import annotations

from typing import Any

import pytest

from core.terms import Reason, Span, State
from desktop.snapshot import Face, Given, happenings, ledger, read
from tests.desktop.door_server import DAYS, T, reason, status


def test_a_whole_status_is_read() -> None:
    """All that the node says of itself reaches the snapshot."""
    seen = read(status())
    assert (seen.status.state, seen.status.span, seen.status.sessions) == (State.GIVING, Span(3, 8), 2)
    assert (seen.status.vram.used, seen.status.rates.tokens, seen.status.swarm.donors) == (
        6_100_000_000,
        6.4,
        14,
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"state": "dancing"},
        {"state": "giving", "reason": {"kind": "dancing", "text": "it dances"}},
        {"state": "giving", "span": {"start": 5, "end": 2}, "progress": "much", "swarm": [], "vram": None},
        {"state": "giving", "sessions": -4, "rates": {"up": float("nan")}, "today": {"tokens": "many"}},
    ],
)
def test_what_is_odd_is_left_out(odd: dict[str, Any]) -> None:
    """A node that is newer or broken still gives a snapshot."""
    seen = read(odd)
    assert seen.status.sessions == 0 and seen.status.span is None
    assert seen.face in Face


@pytest.mark.parametrize("said", [None, [], "giving", {}, {"version": "1"}])
def test_what_is_no_status_is_refused(said: object) -> None:
    """Anything else on that address is not taken for a node."""
    with pytest.raises(ValueError, match="no status"):
        read(said)


@pytest.mark.parametrize(
    ("said", "face"),
    [
        (status("off"), Face.OFF),
        (status("waiting", reason=reason("input")), Face.WAITING),
        (status("waiting", reason=reason("gpu_busy")), Face.OWNER),
        (status("waiting", reason=reason("fullscreen")), Face.OWNER),
        (status("fetching"), Face.WORKING),
        (status("loading"), Face.WORKING),
        (status("giving"), Face.GIVING),
        (status("leaving"), Face.WAITING),
        (status("paused"), Face.PAUSED),
        (status("trouble"), Face.TROUBLE),
    ],
)
def test_faces(said: dict[str, Any], face: Face) -> None:
    """Each state has its face; what the owner does makes it their turn."""
    assert read(said).face is face


def test_a_pause_has_its_end() -> None:
    """How long a pause lasts comes from its reason; for any other state there is none."""
    assert read(status("paused", reason=reason("paused", until=5.0))).paused_until == 5.0
    assert read(status("waiting", reason=reason("hours", until=5.0))).paused_until is None


def test_the_ledger() -> None:
    """Days, week and all time are read; what is missing is nothing."""
    found = ledger({"today": T, "days": [*DAYS, {"day": 3}, "x"]})
    assert (found.today.tokens, found.week, len(found.days)) == (412, Given(), len(DAYS))


def test_events_are_the_newest_first() -> None:
    """Whatever order the node keeps them in."""
    found = happenings([{"at": 1, "state": "giving"}, {"at": 3, "reason": reason("input")}, {"at": 2}, 7])
    assert [event.at for event in found] == [3, 2, 1, 0]
    assert found[0].because is not None and found[0].because.kind is Reason.INPUT
