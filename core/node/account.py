"""What is told of giving: sums of the day, rates, hours. Belongs to one loop; what is counted goes into the
ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from core.meter import Traffic
from core.node.ledger import Given, Ledger
from core.serving.counts import Counts
from core.swarm.traffic import Gauge
from core.terms import Facts, Rates, Today

RATE_SECONDS = 60.0
CARRIED_SECONDS, KEEP_SECONDS = 5.0, 60.0
"""Between two looks at what this process's own connections carry, and between two times that it is kept."""


class Account:
    """``counted`` is what the worker told last; ``own_rate`` the bytes a second that the node's own p2pd
    receives."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.counted = Counts()
        self.own_rate = 0.0
        self._tokens: list[tuple[float, int]] = []
        self._served_at: float | None = None
        self._gauge, self._kept = Gauge(), Traffic()

    def count(self, counts: Counts) -> None:
        """The worker's sums since it began, of which what is new is added."""
        before = self.counted if counts.worker == self.counted.worker else Counts(worker=counts.worker)
        new = Given(
            counts.tokens - before.tokens,
            counts.conversations - before.conversations,
            counts.up_bytes - before.up_bytes,
            counts.down_bytes - before.down_bytes,
        )
        self.counted = counts
        self._tokens.append((time.monotonic(), new.tokens))
        self.ledger.add(new)
        self.ledger.save()

    def served(self, serves: bool, facts: Facts) -> None:
        """Hours count while others are served."""
        if serves and self._served_at is not None:
            self.ledger.add(Given(hours=max(0.0, facts.clock - self._served_at) / 3600), facts.now)
        self._served_at = facts.clock if serves else None

    @property
    def today(self) -> Today:
        given = self.ledger.today
        return Today(given.tokens, given.conversations, given.up_bytes, given.down_bytes)

    @property
    def rates(self) -> Rates:
        now = time.monotonic()
        self._tokens = [one for one in self._tokens if now - one[0] < RATE_SECONDS]
        tokens = sum(count for _, count in self._tokens) / RATE_SECONDS
        return Rates(self.counted.up_rate, self.counted.down_rate, round(tokens, 2))

    # What the node itself carries

    async def count_own(self, pid: Callable[[], int | None]) -> None:
        """What this node's own p2pd carries: the swarm's upkeep, the owner's chats, what it relays."""
        kept_at = time.monotonic()
        while True:
            if (own := pid()) is not None:
                before = self._gauge.total
                new = await asyncio.to_thread(self._gauge.look, own) - before
                self.own_rate = new.down / CARRIED_SECONDS
            if time.monotonic() - kept_at > KEEP_SECONDS:  # each time the disk is written to
                kept_at = time.monotonic()
                self.keep_own()
            await asyncio.sleep(CARRIED_SECONDS)

    def keep_own(self) -> None:
        new, self._kept = self._gauge.total - self._kept, self._gauge.total
        if new != Traffic():
            self.ledger.add(Given(up_bytes=new.up, down_bytes=new.down))
