"""How many answers programs may have at once, and how fast strangers may try keys.

One program that opens answers without end would take the donors' caches from everybody, and this node's
threads from its owner's page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from webchat.refusals import Refusal

MAX_ANSWERS = 64


class Turnstile:
    def __init__(self, most: int = MAX_ANSWERS) -> None:
        self._most, self._inside = most, 0
        self._turn = threading.Lock()

    @contextmanager
    def answers(self, count: int = 1) -> Iterator[None]:
        """Holds a place for each of ``count`` answers. Raises ``Refusal`` where there is none left."""
        with self._turn:
            if self._inside + count > self._most:
                raise Refusal(
                    429,
                    f"programs have {self._inside} answers under way, and {self._most} is the most",
                    "Wait for one to end.",
                    code="rate_limit_exceeded",
                )
            self._inside += count
        try:
            yield
        finally:
            with self._turn:
                self._inside -= count


class Pace:
    """So many a second, and ``burst`` at once. ``clock`` is for tests."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._at = burst, clock()
        self._turn = threading.Lock()

    def allows(self) -> bool:
        with self._turn:
            now = self._clock()
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True
