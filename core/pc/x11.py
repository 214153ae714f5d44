"""An X11 desktop: time without input, and the program that fills the screen."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Self, TypeVar

import psutil

from core.pc.source import Reading, Unreadable

T = TypeVar("T")


def is_here() -> bool:
    """Under Wayland, X11 sees only its own windows and no input of others."""
    return bool(os.environ.get("DISPLAY")) and not os.environ.get("WAYLAND_DISPLAY")


def _open() -> Any:
    from Xlib import display, error, xauth

    xauth.print = _quiet  # it prints to standard output where there is no authority file
    try:
        return display.Display()
    except (error.DisplayError, error.XError, OSError, ValueError, AssertionError) as broken:
        raise Unreadable(f"the X server does not answer: {broken}") from broken


def _quiet(*_: object) -> None:
    """What Xlib says is not for whoever reads our output."""


class _Connection:
    """Opened at the first reading, and anew after a failure: the X server may be restarted."""

    def __init__(self) -> None:
        self._display: Any = None

    @classmethod
    def open(cls) -> Self | None:
        return cls() if is_here() else None

    def close(self) -> None:
        if self._display is not None:
            with suppress(Exception):  # whatever a broken connection says at its end
                self._display.close()
            self._display = None

    def _ask(self, question: Callable[[Any], T]) -> T:
        from Xlib import error

        if self._display is None:
            self._display = _open()
        try:
            return question(self._display)
        except (error.ConnectionClosedError, error.XError, OSError, AttributeError) as broken:
            self.close()
            raise Unreadable(f"the X server does not answer: {broken}") from broken


class X11Input(_Connection):
    every: ClassVar[float] = 0.1

    def read(self) -> Reading:
        def idle(display: Any) -> float:
            return float(display.screen().root.screensaver_query_info().idle) / 1000

        return {"idle_seconds": self._ask(idle)}


class X11Screen(_Connection):
    """By the hints that window managers set (EWMH): the active window, and whether it is fullscreen."""

    every: ClassVar[float] = 0.5

    def read(self) -> Reading:
        return {"fullscreen": self._ask(_fullscreen)}


def _fullscreen(display: Any) -> str:
    from Xlib import X, error

    root = display.screen().root
    active = root.get_full_property(display.intern_atom("_NET_ACTIVE_WINDOW"), X.AnyPropertyType)
    if active is None or not active.value or not active.value[0]:
        return ""
    window = display.create_resource_object("window", active.value[0])
    try:
        state = window.get_full_property(display.intern_atom("_NET_WM_STATE"), X.AnyPropertyType)
        if state is None or display.intern_atom("_NET_WM_STATE_FULLSCREEN") not in state.value:
            return ""
        return _program(display, window)
    except error.BadWindow:
        return ""  # it has just been closed


def _program(display: Any, window: Any) -> str:
    from Xlib import X

    pid = window.get_full_property(display.intern_atom("_NET_WM_PID"), X.AnyPropertyType)
    if pid is not None and pid.value:
        with suppress(psutil.Error):
            return psutil.Process(int(pid.value[0])).name()
    names = window.get_wm_class()
    return str(names[1]) if names else "a program"
