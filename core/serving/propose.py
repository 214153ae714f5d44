"""The tail's guesses of what comes next: what followed the last time the text went like this.

Tokens proposed travel around the ring with the one that was drawn, and cost little where delays or
reading weights dominate; where they do not, or are wrong, they cost more than they bring. So the
number proposed is chosen by what it brought: tokens a second of each window, measured on the way,
down to none at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

GRAMS = (4, 3, 2)
"""Lengths of the endings that are looked for, the longest first."""
WINDOWS = (0, 2, 4, 8, 16)
TRY_EVERY = 24
"""Rounds between two tries of a larger window than the best."""
FADE = 0.85
"""Of what a window brought before, kept at each new measurement."""


class NgramIndex:
    """Where each ending of ``GRAMS`` tokens was last followed by something. ``ids`` is shared with its
    owner, who only appends to it."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = ids
        self._after: dict[tuple[int, ...], int] = {}
        self._known = 0

    def continuation(self, count: int) -> Sequence[int]:
        """What followed the text's ending the last time, at most ``count`` tokens."""
        self._learn()
        for size in GRAMS:
            at = self._after.get(tuple(self.ids[-size:])) if len(self.ids) > size else None
            if at is not None:
                return self._from(at, count)
        return ()

    def _from(self, at: int, count: int) -> Sequence[int]:
        """A text that repeats itself faster than ``count`` tokens goes on repeating."""
        found = list(self.ids[at : at + count])
        period = len(self.ids) - at
        while len(found) < count:
            found.append(found[len(found) - period])
        return found

    def _learn(self) -> None:
        """Endings before the last token: those have a token after them."""
        for end in range(self._known, len(self.ids) - 1):
            for size in GRAMS:
                if end + 1 >= size:
                    self._after[tuple(self.ids[end + 1 - size : end + 1])] = end + 1
        self._known = max(self._known, len(self.ids) - 1)


class NgramProposer:
    """Proposes continuations, as many as paid. ``clock`` gives seconds."""

    def __init__(self, ids: Sequence[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._index = NgramIndex(ids)
        self._clock = clock
        self._rates = dict.fromkeys(WINDOWS, 0.0)
        """Tokens a second that each window brought; 0 while unknown."""
        self._window = 0
        self._left_at: float | None = None
        self._rounds = 0

    def propose(self, room: int) -> Sequence[int]:
        now = self._clock()
        if self._left_at is not None and self._window == 0:
            self._note(0, 1, now - self._left_at)
        self._rounds += 1
        self._left_at = now
        wanted = min(self._choose(), room)
        found = self._index.continuation(wanted) if wanted > 0 else ()
        self._window = wanted if found else 0
        return found

    def judge(self, proposed: int, accepted: int) -> None:
        now = self._clock()
        if self._left_at is not None:
            window = min(WINDOWS, key=lambda window: abs(window - proposed))
            self._note(window, 1 + accepted, now - self._left_at)
        self._left_at = None
        self._window = 0

    def _choose(self) -> int:
        """The window that brought most; the next larger one now and then, since texts change."""
        if not self._rates[0] and self._rounds > 1:
            return 0
        best = max(WINDOWS, key=lambda window: self._rates[window])
        larger = WINDOWS[min(WINDOWS.index(best) + 1, len(WINDOWS) - 1)]
        untried = not self._rates[larger]
        if (untried and self._rounds > 1) or self._rounds % TRY_EVERY == 0:
            return larger
        return best

    def _note(self, window: int, tokens: int, seconds: float) -> None:
        rate = tokens / max(seconds, 1e-6)
        known = self._rates[window]
        self._rates[window] = FADE * known + (1 - FADE) * rate if known else rate
