"""A virtual X display of its own, with keys that are really pressed and windows that fill the screen."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Screen:
    """``name`` is what ``DISPLAY`` says."""

    name: str

    @property
    def environment(self) -> dict[str, str]:
        return {"DISPLAY": self.name}

    def press(self, key: str = "a") -> None:
        """As a person does: the server itself sees input."""
        subprocess.run(["xdotool", "key", key], env={**os.environ, **self.environment}, check=True)

    def windows(self, title: str) -> list[str]:
        """Those that are shown under that title."""
        line = ["xdotool", "search", "--onlyvisible", "--name", title]
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            line, env=environment, capture_output=True, text=True, check=False
        ).stdout.split()

    @contextmanager
    def fullscreen(self, pid: int | None = None) -> Iterator[None]:
        """A window that fills the screen, told by the hints that a window manager sets."""
        display = _display(self.name)
        window = _window(display, pid)
        try:
            yield
        finally:
            window.destroy()
            display.screen().root.delete_property(display.intern_atom("_NET_ACTIVE_WINDOW"))
            display.sync()
            display.close()


def _display(name: str) -> Any:
    from Xlib import display

    return display.Display(name)


def _window(display: Any, pid: int | None) -> Any:
    from Xlib import X, Xatom

    screen = display.screen()
    size = (0, 0, screen.width_in_pixels, screen.height_in_pixels, 0)
    window = screen.root.create_window(*size, screen.root_depth)
    window.set_wm_class("game", "Game")
    atom = display.intern_atom
    window.change_property(atom("_NET_WM_STATE"), Xatom.ATOM, 32, [atom("_NET_WM_STATE_FULLSCREEN")])
    if pid is not None:
        window.change_property(atom("_NET_WM_PID"), Xatom.CARDINAL, 32, [pid])
    window.map()
    screen.root.change_property(
        atom("_NET_ACTIVE_WINDOW"), Xatom.WINDOW, 32, [window.id], mode=X.PropModeReplace
    )
    display.sync()
    return window


@contextmanager
def virtual_screen() -> Iterator[Screen]:
    ours, theirs = os.pipe()
    command = [
        "Xvfb",
        "-displayfd",
        str(theirs),
        "-screen",
        "0",
        "1280x800x24",
        "-nolisten",
        "tcp",
        "-noreset",
    ]
    server = subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL)
    os.close(theirs)
    try:
        with os.fdopen(ours) as said:
            yield Screen(f":{said.readline().strip()}")
    finally:
        server.terminate()
        server.wait()
