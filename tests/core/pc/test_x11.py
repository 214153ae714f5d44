"""Facts of an X11 desktop, from a real X server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import psutil
import pytest

from core.pc.source import Unreadable
from core.pc.x11 import X11Input, X11Screen
from tests.screen import Screen, virtual_screen

pytestmark = pytest.mark.xvfb


@pytest.fixture(scope="module")
def server() -> Iterator[Screen]:
    with virtual_screen() as made:
        yield made


@pytest.fixture
def screen(
    server: Screen, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Screen]:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", server.name)
    yield server
    assert capfd.readouterr().out == ""  # Xlib must not write where our output goes


def idle(source: X11Input) -> float:
    seconds = source.read()["idle_seconds"]
    assert isinstance(seconds, float)
    return seconds


def test_a_key_begins_the_time_anew(screen: Screen) -> None:
    """It grows while nobody touches anything."""
    source = X11Input.open()
    assert source is not None
    screen.press()
    first = idle(source)
    time.sleep(0.3)
    assert idle(source) >= first + 0.25
    screen.press("Shift_L")
    assert idle(source) < 0.3
    source.close()


def test_a_window_that_fills_the_screen_is_named(screen: Screen) -> None:
    """By its process where the window tells, else by its class; when it has gone, there is none."""
    source = X11Screen.open()
    assert source is not None
    assert source.read() == {"fullscreen": ""}
    with screen.fullscreen():
        assert source.read() == {"fullscreen": "Game"}
    assert source.read() == {"fullscreen": ""}
    with screen.fullscreen(os.getpid()):
        assert source.read() == {"fullscreen": psutil.Process().name()}
    source.close()


def test_wayland_and_no_display_have_the_null_answer(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Wayland, X sees no input of others."""
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert X11Input.open() is None and X11Screen.open() is None
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.delenv("DISPLAY")
    assert X11Input.open() is None


# Xlib leaves its socket to the garbage collector where nobody answers.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_that_ends_is_unknown_until_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked anew each time."""
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with virtual_screen() as gone:
        monkeypatch.setenv("DISPLAY", gone.name)
        source = X11Input.open()
        assert source is not None
        idle(source)
    for _ in range(2):
        with pytest.raises(Unreadable):
            source.read()
