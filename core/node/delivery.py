"""What travels between who decides what a worker serves and who keeps the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from core.serving.orders import WorkerConfig
from core.terms import Progress, Span

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Delivery:
    """What a worker is told. ``phase`` is what it does with it first: ``quantizing`` or ``loading``.
    ``whole``: nothing more comes after it."""

    config: WorkerConfig
    phase: str = "loading"
    whole: bool = True
    goal: Span | None = None
    """What it will be, once the rest has come."""
    online: Callable[[], Awaitable[None]] | None = None
    """To be called when the worker serves: nobody else speaks for it from then on."""

    @property
    def span(self) -> Span:
        return Span(*self.config.span)


Deliver = Callable[[Report], AsyncIterator[Delivery]]
"""What a worker is to serve: yields ever longer spans as their layers come, telling how far it is."""
