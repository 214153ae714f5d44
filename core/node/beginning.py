"""How a worker begins, and what is done where it cannot: why, and when it is tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from core.errors import DiskError, IdlebloomError, NotAccepted, TooLittle
from core.node.delivery import Delivery
from core.pc.machine import free_disk
from core.serving.supervisor import Worker, WorkerFailed
from core.terms import Because, Reason, State

AHEAD_SECONDS = 5.0
"""So long a worker that was started ahead waits for its first layers."""
CLEARED_SECONDS = 1.0
"""Between two looks whether what was in the way has gone: a licence that was accepted,"""
MADE_ROOM = 64 << 20
"""or so many more bytes of the disk."""


async def first_of(
    deliveries: AsyncIterator[Delivery], log_file: Path, runtime: Path | None, *, ahead: bool
) -> tuple[Delivery, Worker]:
    """The first delivery, and a worker for it. One that is started ``ahead`` imports its libraries while it
    is decided what it serves; where layers have to be fetched first, it does not stay for that. Raises
    what delivering raises, and ``WorkerFailed``."""
    coming = asyncio.ensure_future(anext(deliveries))
    worker: Worker | None = None
    try:
        if ahead:
            worker = await Worker.start(log=log_file, runtime=runtime)
            await asyncio.wait({coming}, timeout=AHEAD_SECONDS)
        first = coming.result() if coming.done() else None
        if worker is not None and (first is None or first.config.threads):
            idle, worker = worker, None
            await asyncio.shield(idle.stop())
        if first is None:
            first = await coming
        return first, worker or await Worker.start(log=log_file, threads=first.config.threads)
    except BaseException:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        if worker is not None:
            await asyncio.shield(worker.stop())
        raise


def why_not(error: IdlebloomError, until: float) -> tuple[State, Because]:
    """What the status says while nothing is given because of ``error``, until it is tried again."""
    why: dict[str, str | int | float] = {"why": error.message}
    match error:
        case TooLittle():
            return State.WAITING, Because(Reason.NO_ROOM, {"why": str(error)}, until=until)
        case NotAccepted():
            return State.WAITING, Because(Reason.NO_LICENCE, {"why": str(error)}, until=until)
        case WorkerFailed():
            return State.TROUBLE, Because(Reason.WORKER_FAILED, why, until=until)
        case _:
            return State.TROUBLE, Because(Reason.NO_LAYERS, {"why": str(error)}, until=until)


async def cleared(
    error: IdlebloomError, seconds: float, places: Sequence[Path], may_answer: Callable[[], bool]
) -> bool:
    """Waits so long, or until what was in the way has gone: then true. ``places``: where the disk may have
    been too full. ``may_answer``: whether the model's licence is accepted."""
    of_disk = isinstance(error, DiskError | TooLittle) or (isinstance(error, WorkerFailed) and error.disk)
    if not of_disk and not isinstance(error, NotAccepted):
        await asyncio.sleep(seconds)
        return False
    before = await asyncio.to_thread(lambda: [free_disk(place) for place in places])

    def gone() -> bool:
        if isinstance(error, NotAccepted):
            return may_answer()
        now = [free_disk(place) for place in places]
        return any(free > was + MADE_ROOM for free, was in zip(now, before, strict=True))

    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, CLEARED_SECONDS))
        if await asyncio.to_thread(gone):
            return True
    return False
