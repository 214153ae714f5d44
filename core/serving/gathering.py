"""When a batch of decode steps waits for more of them.

Reading the weights dominates a step, so eight sessions in one batch cost little more than one. But what
leaves a donor as one batch comes to the next as frames one by one: who began at once with the first would
run that alone, the rest after it, and a ring would fall apart into batches of one. So a batch waits while
frames keep coming, for a small part of a step; and the entry of a ring whose stages share the cores of one PC
waits for an equal part of its sessions, as many parts as can be under way at once: more of them would only
be smaller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

GAP = 1 / 16
"""Of a step: how long after a frame another is waited for;"""
PATIENCE = 1 / 4
"""of a step: how long in all."""
EARLY, LATE = 0.5, 1.5
"""A session comes back after a round, the time between two of its steps: no sooner and no later than so
many of them."""


class Gathering:
    """What has lately been decoded, and what is waited for. Times are seconds of one clock."""

    def __init__(self) -> None:
        self.round = 0.0
        """Between two steps of a session, a moving average; 0 until known."""
        self._begun: dict[object, float] = {}
        self._since: float | None = None
        self._count = 0
        self._latest = 0.0

    def wait(self, ready: Collection[object], now: float, step: float, parts: int = 0) -> float:
        """Seconds until to look again; 0 when the steps that are ready shall begin. ``step`` is what a
        batch takes; into so many ``parts`` all sessions shall fall, 0 leaves that to chance."""
        if self._since is None:
            self._since, self._count = now, 0
        if len(ready) > self._count:
            self._count, self._latest = len(ready), now
        until = now
        if self._absent(ready, now, soonest=EARLY):
            until = min(self._since + PATIENCE * step, self._latest + GAP * step)
        if parts and len(ready) * parts < len(ready) + self._absent(ready, now, soonest=0.0):
            until = self._since + self.round
        return max(until - now, 0.0)

    def begin(self, keys: Iterable[object], now: float) -> None:
        """These steps begin; others are forgotten when they have not come for long."""
        for key in keys:
            last = self._begun.get(key)
            if last is not None:
                self.round = 0.9 * self.round + 0.1 * (now - last) if self.round else now - last
            self._begun[key] = now
        self._begun = {key: at for key, at in self._begun.items() if now - at < 2 * max(self.round, 1.0)}
        self._since = None

    def _absent(self, ready: Collection[object], now: float, *, soonest: float) -> int:
        """How many sessions that are not there began ``soonest`` to LATE rounds ago."""
        early, late = soonest * self.round, LATE * self.round
        return sum(early <= now - at < late for key, at in self._begun.items() if key not in ready)
