"""What cannot run here: the readings of Windows and macOS, as far as they can be held against made-up
answers."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from core.pc import macos, windows
from core.pc.source import Unreadable


def dll(ticks: int, last: int, state: int, desktop: int = 7) -> Any:
    """Windows' libraries, answering this."""

    def last_input(pointer: Any) -> int:
        pointer._obj.ticks = last
        return 1

    def notification(pointer: Any) -> int:
        pointer._obj.value = state
        return 0

    def title(_window: int, text: Any, _size: int) -> int:
        text.value = "Game"
        return 4

    user = SimpleNamespace(
        GetLastInputInfo=last_input,
        OpenInputDesktop=lambda *_: desktop,
        CloseDesktop=lambda _: 1,
        GetForegroundWindow=lambda: 1,
        GetWindowTextW=title,
    )
    return SimpleNamespace(
        user32=user,
        kernel32=SimpleNamespace(GetTickCount=lambda: ctypes.c_uint(ticks).value),
        shell32=SimpleNamespace(SHQueryUserNotificationState=notification),
    )


@pytest.mark.parametrize(("ticks", "last", "seconds"), [(10_000, 4_000, 6.0), (1_000, 2**32 - 1_000, 2.0)])
def test_windows_tells_time_without_input(ticks: int, last: int, seconds: float) -> None:
    """Also where the counter has turned over meanwhile."""
    found = windows.Desktop(dll(ticks, last, 5)).read()
    assert found == {"idle_seconds": seconds, "locked": False, "fullscreen": ""}


@pytest.mark.parametrize("state", [2, 3, 4])
def test_windows_tells_what_fills_the_screen(state: int) -> None:
    """A program, a game or a presentation, by its window's title."""
    assert windows.Desktop(dll(1, 1, state)).read()["fullscreen"] == "Game"


def test_windows_is_locked_where_its_desktop_is_closed_to_us() -> None:
    """The lock screen has the input then."""
    assert windows.Desktop(dll(1, 1, 5, desktop=0)).read()["locked"] is True


def test_macos_tells_time_without_input() -> None:
    """The least of all devices; nothing told is unknown."""
    said = '  | "HIDIdleTime" = 7500000000\n  | "HIDIdleTime" = 9000000000\n'
    assert macos.idle_of(said) == 7.5
    with pytest.raises(Unreadable):
        macos.idle_of("nothing")


def test_neither_is_here() -> None:
    """On another system both have the null answer."""
    assert windows.Desktop.open() is None and macos.Input.open() is None
