"""How long an answer waits for a route, and how often it tries: pure, over a clock.

After a loss the next try comes at once, and the one after it: replicas die in pairs. Then pauses grow.
What ends the waiting is time without progress; but where routes do open and only break again, a few tries
are always made, since each of them may have taken long to fill.
"""

from __future__ import annotations

from collections.abc import Callable

FREE_TRIES = 2
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0
LEAST_TRIES = 8


class Patience:
    """``seconds`` without progress are borne; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self.progress()

    def progress(self) -> None:
        """The answer goes on: what was lost before is forgotten."""
        self._until: float | None = None
        self._tries = 0

    def pause(self, *, nobody: bool = False) -> float | None:
        """Something failed: the seconds to wait before the next try, ``None`` when it is time to give up.
        ``nobody`` says that there was no route to try at all."""
        now = self._clock()
        if self._until is None:
            self._until = now + self._seconds
        self._tries += 1
        if now >= self._until and (nobody or self._tries > LEAST_TRIES):
            return None
        steps = self._tries - (0 if nobody else FREE_TRIES)
        if steps < 1:
            return 0.0
        pause: float = min(FIRST_PAUSE * 2.0 ** min(steps - 1, 10), LONGEST_PAUSE)
        return min(pause, self._until - now) if now < self._until else pause
