from __future__ import annotations

import pytest

from core.hours import DAY, WEEK, allowed, minutes_until_change, normal

FRIDAY = 4 * DAY


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("always", ""),
        ("  ", ""),
        ("22:00-8:00", "22:00-08:00"),
        ("MON - fri 18:00 – 23:00,sat-sun 0:00-24:00", "mon-fri 18:00-23:00, sat-sun 00:00-24:00"),
        ("sun 1:05-1:06", "sun 01:05-01:06"),
    ],
)
def test_hours_are_written_one_way(text: str, written: str) -> None:
    """However they are typed; and what is written reads as itself."""
    assert normal(text) == written
    assert normal(written) == written


@pytest.mark.parametrize(
    "text",
    ["22", "22:00", "25:00-26:00", "12:60-13:00", "12:00-12:00", "foo 1:00-2:00", "1:00-2:00,", "24:00-1:00"],
)
def test_other_text_is_refused(text: str) -> None:
    """With words that say how hours are written."""
    with pytest.raises(ValueError, match="hours like"):
        normal(text)


@pytest.mark.parametrize(
    ("hours", "minute", "is_allowed", "wait"),
    [
        ("", 0, True, None),
        ("22:00-08:00", 0, True, 8 * 60),
        ("22:00-08:00", 8 * 60, False, 14 * 60),
        ("22:00-08:00", WEEK - 1, True, 8 * 60 + 1),
        ("mon-fri 18:00-23:00", FRIDAY + 23 * 60, False, 2 * DAY + 19 * 60),
        ("sun 23:00-01:00", 30, True, 30),
        ("sun 23:00-01:00", 60, False, 6 * DAY + 22 * 60),
        ("fri-mon 10:00-11:00", 10 * 60, True, 60),
        ("fri-mon 10:00-11:00", DAY + 10 * 60, False, 3 * DAY),
        ("00:00-24:00", 77, True, None),
        ("08:00-12:00, 12:00-14:00", 9 * 60, True, 5 * 60),
    ],
)
def test_a_minute_is_within_or_not(hours: str, minute: int, is_allowed: bool, wait: int | None) -> None:
    """Nights, weeks that turn over and neighbouring times included; and it is known until when."""
    assert allowed(hours, minute) is is_allowed
    assert minutes_until_change(hours, minute) == wait
