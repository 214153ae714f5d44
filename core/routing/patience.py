"""How long an answer waits for a route, and how often it tries: pure, over a clock.

After a loss the next try comes at once, and the one after it: replicas die in pairs. Then pauses grow.
What ends the waiting is time without a route. Where routes do open and only break again it lasts
``BROKEN_TIMES`` as long: that is donors that come and go, or a PC that is short of time, and no reason to
give up what is half said. Where donors compute nonsense, the time itself counts, but a few tries are always
made, since each of them may have taken long to fill.
"""

from __future__ import annotations

from collections.abc import Callable

FREE_TRIES = 2
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0
BROKEN_TIMES = 10
LEAST_TRIES = 8


class Patience:
    """``seconds`` without progress are borne; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self.progress()

    def progress(self) -> None:
        """The answer goes on: what was lost before is forgotten."""
        self._broken_since: float | None = None
        self._alone_since: float | None = None
        self._nonsense_since: float | None = None
        self._tries = 0

    def pause(self, *, nobody: bool = False, nonsense: bool = False) -> float | None:
        """Something failed: the seconds to wait before the next try, ``None`` when it is time to give up.
        ``nobody`` says that there was no route to try at all, ``nonsense`` that a donor was there and did
        not compute what it should."""
        now = self._clock()
        self._tries += 1
        self._broken_since = now if self._broken_since is None else self._broken_since
        if not nobody:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        if nonsense and self._nonsense_since is None:
            self._nonsense_since = now
        left = self._left(now, nobody=nobody, nonsense=nonsense)
        if left <= 0 and (nobody or self._tries > LEAST_TRIES):
            return None
        steps = self._tries - (0 if nobody else FREE_TRIES)
        if steps < 1:
            return 0.0
        pause: float = min(FIRST_PAUSE * 2.0 ** min(steps - 1, 10), LONGEST_PAUSE)
        return min(pause, left) if left > 0 else pause

    def _left(self, now: float, *, nobody: bool, nonsense: bool) -> float:
        """Seconds that are still borne."""
        ends = [(self._broken_since, BROKEN_TIMES * self._seconds)]
        if nobody:
            ends.append((self._alone_since, self._seconds))
        if nonsense:
            ends.append((self._nonsense_since, self._seconds))
        return min(since + seconds - now for since, seconds in ends if since is not None)
