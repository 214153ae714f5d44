"""What is seen, and what is done about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.swarm.watchdog import SILENT, Do, Signs, Watchdog
from core.terms import Because, Reason

HOME = frozenset({"192.168.1.7"})
WELL = Signs(steady=100.0, through_sleep=500.0, answers=True, wall=1e9, places=HOME, connected=3)


def after(seconds: float, **changes: object) -> Signs:
    times = {"steady": 100.0 + seconds, "through_sleep": 500.0 + seconds, "wall": 1e9 + seconds}
    return replace(WELL, **(times | changes))  # type: ignore[arg-type]


@pytest.fixture
def dog() -> Watchdog:
    watching = Watchdog(wide=True, has_meeting_points=True)
    assert watching.judge(WELL) is Do.NOTHING
    return watching


def test_all_is_well(dog: Watchdog) -> None:
    """Then nothing is done or said."""
    assert dog.judge(after(2)) is Do.NOTHING
    assert dog.trouble(after(2)) is None


def test_a_sleep_is_noticed_and_a_set_clock_is_not_one(dog: Watchdog) -> None:
    """The clock that counts sleep is ahead of the one that does not; who looks late has not slept."""
    assert dog.judge(after(60)) is Do.NOTHING
    assert dog.judge(replace(after(62), through_sleep=500.0 + 3600)) is Do.RENEW
    assert dog.why == "this PC slept"


def test_a_daemon_that_is_silent_twice_is_renewed(dog: Watchdog) -> None:
    """Once may be chance; and a new daemon begins with a clean slate."""
    assert dog.judge(after(2, answers=False)) is Do.NOTHING
    assert dog.judge(after(4, answers=False)) is Do.RENEW
    dog.forget()
    for number in range(SILENT - 1):
        assert dog.judge(after(6 + number, answers=False)) is Do.NOTHING


def test_another_address_renews_and_one_more_is_told(dog: Watchdog) -> None:
    """Connections hang on the address that went; one that came is met with."""
    assert dog.judge(after(2, places=HOME | {"10.8.0.2"})) is Do.MEET
    assert dog.judge(after(4, places=frozenset({"192.168.9.9"}))) is Do.RENEW
    alone = Watchdog(wide=True, has_meeting_points=False)
    alone.judge(WELL)
    assert alone.judge(after(2, places=HOME | {"10.8.0.2"})) is Do.TELL


def test_a_peer_on_loopback_cares_for_no_address() -> None:
    """Nor for a network that is not there."""
    dog = Watchdog(wide=False, has_meeting_points=False)
    dog.judge(WELL)
    assert dog.judge(after(2, places=frozenset(), connected=0)) is Do.NOTHING
    assert dog.trouble(after(2, places=frozenset(), connected=0)) is None


@pytest.mark.parametrize("moved", [-3600, -1.5, 1.5, 86_400])
def test_a_clock_that_was_set_is_compared_at_once(dog: Watchdog, moved: float) -> None:
    """With the meeting points' clocks, whichever way it went; a peer that knows none lets it be."""
    assert dog.judge(after(2, wall=1e9 + 2 + moved)) is Do.MEET
    assert dog.judge(after(4, wall=1e9 + 4 + moved)) is Do.NOTHING
    alone = Watchdog(wide=True, has_meeting_points=False)
    alone.judge(WELL)
    assert alone.judge(after(2, wall=1e9 + 2 + moved)) is Do.NOTHING


@pytest.mark.parametrize(
    ("signs", "do", "said"),
    [
        (after(2, places=frozenset(), connected=0), Do.MEET, Because(Reason.NO_NETWORK)),
        (after(2, connected=0), Do.MEET, Because(Reason.NO_MEETING_POINT)),
        (after(2, admitted=False), Do.MEET, Because(Reason.NOT_ADMITTED)),
        (after(2, behind=60.4), Do.NOTHING, Because(Reason.CLOCK_BEHIND, {"seconds": 60})),
        (after(2, behind=-4.0), Do.NOTHING, Because(Reason.CLOCK_AHEAD, {"seconds": 4})),
        (after(2, behind=2.9), Do.NOTHING, None),
    ],
    ids=["no network", "no meeting point", "not let in", "behind", "ahead", "near enough"],
)
def test_trouble_is_said(dog: Watchdog, signs: Signs, do: Do, said: Because | None) -> None:
    """In the words of a reason, while what can be done is done."""
    assert dog.judge(signs) is do
    assert dog.trouble(signs) == said
