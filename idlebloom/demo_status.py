"""What a demo's donors do together, as the status of its node says it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from core.node.account import Account
from core.node.node import Node
from core.serving.counts import Counts
from core.serving.supervisor import Worker
from core.terms import Span, State

LOOK_SECONDS = 1.0


@dataclass
class Together:
    """Follows the donors that have begun to serve; belongs to the demo's loop."""

    node: Node
    account: Account
    _held: dict[Worker, tuple[Span, Counts]] = field(default_factory=dict)

    def joined(self, worker: Worker, span: Span) -> None:
        """It serves ``span`` from now on, until it ends; what it has served by then stays counted."""

        def count(counts: Counts) -> None:
            self._held[worker] = (span, counts)
            self.publish()

        worker.on_counts = count
        count(Counts())

    async def follow(self) -> None:
        """Donors end without a word, and what a minute brought fades by itself."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.publish()

    def publish(self) -> None:
        alive = {worker for worker in self._held if worker.process.returncode is None}
        served = [
            (span, counts if worker in alive else _ended(counts))
            for worker, (span, counts) in self._held.items()
        ]
        counts = summed(served, self.node.model.config.layers)
        self.account.count(counts)
        self.node.publish(
            replace(
                self.node.untroubled,
                state=State.GIVING,
                reason=None,
                span=joined([span for worker, (span, _) in self._held.items() if worker in alive]),
                sessions=counts.sessions,
                today=self.account.today,
                rates=self.account.rates,
            )
        )


def summed(served: Collection[tuple[Span, Counts]], layers: int) -> Counts:
    """As if one donor held all. An answer passes every layer, at one holder of each: the layer whose holders
    counted least tells how many there were. Bytes are of all."""

    def least(of: str) -> int:
        sums: list[int] = [
            sum(getattr(one, of) for span, one in served if layer in span) for layer in range(layers)
        ]
        return min(sums)

    return Counts(
        tokens=least("tokens"),
        conversations=least("conversations"),
        sessions=least("sessions"),
        up_bytes=sum(one.up_bytes for _, one in served),
        down_bytes=sum(one.down_bytes for _, one in served),
        up_rate=sum(one.up_rate for _, one in served),
        down_rate=sum(one.down_rate for _, one in served),
    )


def joined(spans: Collection[Span]) -> Span | None:
    """All of them as one; ``None`` where a layer between them is missing."""
    held = {layer for span in spans for layer in range(span.start, span.end)}
    if not held or len(held) <= max(held) - min(held):
        return None
    return Span(min(held), max(held) + 1)


def _ended(counts: Counts) -> Counts:
    return replace(counts, sessions=0, up_rate=0.0, down_rate=0.0)
