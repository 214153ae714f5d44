from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from core.errors import SettingError
from core.node.orders import Told, until_of
from core.terms import Orders

NOON = time.mktime((2026, 3, 10, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900),
        ("1h", 3600),
        ("1,5 h", 5400),
        ("2d", 172_800),
        ("90s", 90),
        ("Tomorrow", 20 * 3600),
        ("until tomorrow", 20 * 3600),
        (None, math.inf),
        ("", math.inf),
    ],
)
def test_times_are_typed(text: str | None, seconds: float) -> None:
    """So long, until tomorrow at eight, or until told otherwise."""
    assert until_of(text, NOON) == NOON + seconds


@pytest.mark.parametrize("text", ["soon", "1", "-1h", "0m", "1h30", "9999d", "h"])
def test_other_times_are_refused(text: str) -> None:
    """In words that say how they are typed."""
    with pytest.raises(SettingError, match="15m, 1h or tomorrow"):
        until_of(text, NOON)


class Clocks:
    """A wall clock that may be set, and one that goes on."""

    def __init__(self) -> None:
        self.wall, self.steady = NOON, 1000.0

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def told(tmp_path: Path, clocks: Clocks) -> Told:
    return Told(tmp_path / "state.json", lambda: clocks.wall)


def look(one: Told, clocks: Clocks) -> Orders:
    return one.look(clocks.wall, clocks.steady)


def test_a_pause_outlives_the_program(tmp_path: Path, clocks: Clocks) -> None:
    """With the time that is left; when it is over, nothing is left of it."""
    told(tmp_path, clocks).pause("1h")
    clocks.go(1800)
    again = told(tmp_path, clocks)
    assert look(again, clocks) == Orders(paused_until=NOON + 3600)
    clocks.go(1801)
    assert look(again, clocks) == Orders()
    assert look(told(tmp_path, clocks), clocks) == Orders()


def test_a_pause_until_resumed_ends_by_that_alone(tmp_path: Path, clocks: Clocks) -> None:
    """Not by a restart, nor by time."""
    told(tmp_path, clocks).pause(None)
    clocks.go(1e7)
    again = told(tmp_path, clocks)
    assert look(again, clocks).paused_until == math.inf
    again.resume()
    assert look(told(tmp_path, clocks), clocks) == Orders()


def test_giving_now_ends_with_the_program(tmp_path: Path, clocks: Clocks) -> None:
    """A PC that was started again does not give while its owner works; and a pause ends it."""
    one = told(tmp_path, clocks)
    one.give("1h")
    assert look(one, clocks).give_until == NOON + 3600
    assert look(told(tmp_path, clocks), clocks) == Orders()
    one.pause("1h", finish=True)
    assert look(one, clocks) == Orders(paused_until=NOON + 3600, finishing=True)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_is_set_changes_no_hour(tmp_path: Path, clocks: Clocks, jump: float) -> None:
    """An hour is an hour, whatever the wall's clock is set to; tomorrow is what the clock says."""
    one = told(tmp_path, clocks)
    one.pause("1h")
    look(one, clocks)
    clocks.wall += jump
    assert look(one, clocks).paused_until == NOON + jump + 3600
    clocks.go(3599)
    assert look(one, clocks).paused_until is not None
    clocks.go(2)
    assert look(one, clocks) == Orders()
    one.pause("tomorrow")
    until = look(one, clocks).paused_until
    clocks.wall -= 3600
    assert look(one, clocks).paused_until == until


@pytest.mark.parametrize("content", ["{", "[]", '{"paused_until": "x"}', '{"paused_until": 1e300}'])
def test_a_broken_file_is_kept_aside(tmp_path: Path, clocks: Clocks, content: str) -> None:
    """Nothing is paused then, and it is said where the file could not be read at all."""
    file = tmp_path / "state.json"
    file.write_text(content)
    one = told(tmp_path, clocks)
    assert look(one, clocks) == Orders()
    damaged = content in ("{", "[]")
    assert ("kept as" in one.notice) is damaged
    assert bool(list(tmp_path.glob("state.json.broken-*"))) is damaged


def test_a_pause_holds_where_nothing_can_be_written(tmp_path: Path, clocks: Clocks) -> None:
    """Until the program ends."""
    (tmp_path / "here").write_text("a file, not a folder")
    one = Told(tmp_path / "here" / "state.json", lambda: clocks.wall)
    one.pause("1h")
    assert look(one, clocks).paused_until == NOON + 3600
