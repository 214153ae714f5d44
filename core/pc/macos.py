"""macOS: time without input, from the registry of its devices."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import ClassVar, Self

from core.pc.source import Reading, Unreadable

COMMAND = ("/usr/sbin/ioreg", "-c", "IOHIDSystem", "-d", "4")


class Input:
    every: ClassVar[float] = 0.5

    @classmethod
    def open(cls) -> Self | None:
        return cls() if sys.platform == "darwin" else None

    def read(self) -> Reading:
        try:
            said = subprocess.run(COMMAND, capture_output=True, text=True, timeout=3, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise Unreadable(f"ioreg: {error}") from error
        return {"idle_seconds": idle_of(said)}

    def close(self) -> None:
        """Nothing is kept."""


def idle_of(said: str) -> float:
    """From what ``ioreg`` prints: the least of all, in nanoseconds there."""
    found = [int(number) for number in re.findall(r'"HIDIdleTime"\s*=\s*(\d+)', said)]
    if not found:
        raise Unreadable("ioreg tells no HIDIdleTime")
    return min(found) / 1e9
