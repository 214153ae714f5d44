"""Windows: time without input, whether it is locked, the program that fills the screen. Gamepads do not count
as input there: games are known by filling the screen."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, ClassVar, Self

from core.pc.source import Reading, Unreadable

FULLSCREEN = frozenset({2, 3, 4})
"""What ``SHQueryUserNotificationState`` answers for a program, a Direct3D game and a presentation."""
READ_OBJECTS = 0x0001


class _LastInput(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint), ("ticks", ctypes.c_uint))


class Desktop:
    every: ClassVar[float] = 0.1

    def __init__(self, windll: Any) -> None:
        self._dll = windll

    @classmethod
    def open(cls) -> Self | None:
        return cls(vars(ctypes)["windll"]) if sys.platform == "win32" else None

    def read(self) -> Reading:
        return {"idle_seconds": self._idle(), "locked": self._locked(), "fullscreen": self._fullscreen()}

    def close(self) -> None:
        """Nothing is kept."""

    def _idle(self) -> float:
        last = _LastInput(ctypes.sizeof(_LastInput), 0)
        if not self._dll.user32.GetLastInputInfo(ctypes.byref(last)):
            raise Unreadable("GetLastInputInfo failed")
        # Both are milliseconds since the start in 32 bits, which turn over every 49.7 days.
        return float((self._dll.kernel32.GetTickCount() - last.ticks) & 0xFFFFFFFF) / 1000

    def _locked(self) -> bool:
        """The desktop that takes input cannot be opened while the lock screen has it."""
        desktop = self._dll.user32.OpenInputDesktop(0, False, READ_OBJECTS)
        if desktop:
            self._dll.user32.CloseDesktop(desktop)
        return not desktop

    def _fullscreen(self) -> str:
        state = ctypes.c_int(0)
        if self._dll.shell32.SHQueryUserNotificationState(ctypes.byref(state)):
            raise Unreadable("SHQueryUserNotificationState failed")
        return self._title() if state.value in FULLSCREEN else ""

    def _title(self) -> str:
        text = ctypes.create_unicode_buffer(120)
        self._dll.user32.GetWindowTextW(self._dll.user32.GetForegroundWindow(), text, 120)
        return text.value or "a program"
