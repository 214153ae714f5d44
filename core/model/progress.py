"""How far fetching is, worked out from the bytes that pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_RATE_SECONDS = 10.0


@dataclass(frozen=True)
class FetchProgress:
    """Bytes there and in all, what was there before included; bytes a second lately; seconds left."""

    done: int
    total: int
    rate: float = 0.0
    seconds_left: float | None = None


Report = Callable[[FetchProgress], None]


class Meter:
    """Turns bytes into progress, told at most ten times a second and at the end."""

    def __init__(self, total: int, report: Report | None) -> None:
        self._total, self._report = total, report or (lambda progress: None)
        self._done = 0
        self._told = -1.0
        self._recent: list[tuple[float, int]] = []

    def found(self, count: int) -> None:
        """Bytes that were there before."""
        self._done += count
        self._tell(time.monotonic())

    def passed(self, count: int) -> None:
        now = time.monotonic()
        self._done += count
        self._recent.append((now, count))
        if now - self._told >= 0.1 or self._done >= self._total:
            self._tell(now)

    def _tell(self, now: float) -> None:
        self._told = now
        self._recent = [one for one in self._recent if now - one[0] <= _RATE_SECONDS]
        seconds = now - self._recent[0][0] if self._recent else 0.0
        rate = sum(count for _, count in self._recent[1:]) / seconds if seconds > 0.2 else 0.0
        left = (self._total - self._done) / rate if rate else None
        self._report(FetchProgress(self._done, self._total, rate, left))
