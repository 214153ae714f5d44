"""A person's hands at the virtual X display: the server itself sees every key and click."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QWidget

Until = Callable[[Callable[[], object]], None]


def press(*keys: str) -> None:
    _xdotool("key", "--delay", "0", *keys)


def write(text: str) -> None:
    """Character by character."""
    _xdotool("type", "--delay", "0", text)


def click(widget: QWidget, where: QPoint | None = None) -> None:
    """With the left button, in the middle of it or at a place within it."""
    at = widget.mapToGlobal(where if where is not None else widget.rect().center())
    point("mousemove", at.x(), at.y(), "click", 1)


def point(*words: object) -> None:
    """Words of xdotool, such as those that move the pointer."""
    _xdotool(*map(str, words))


def focus(widget: QWidget, until: Until) -> None:
    """It takes the keys that are pressed next."""
    widget.window().activateWindow()
    widget.setFocus()
    until(widget.hasFocus)


def _xdotool(*words: str) -> None:
    subprocess.run(["xdotool", *words], check=True)
