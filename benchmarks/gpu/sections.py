"""The sections of a run, in the order in which they matter. Each runs in a process of its own: what one
breaks, a device included, the next does not see, and its memory is free again."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Row

PLACE = "benchmarks.gpu"


@dataclass(frozen=True)
class Section:
    """``function`` of ``module`` makes the rows, of the device or, where it ``wants_files``, of the folder
    with the checkpoints that workers serve. ``seconds``: what it took on an H100 and more than half again."""

    module: str
    function: str
    seconds: int
    wants_files: bool = True

    def rows(self, files: Path) -> Iterable[Row]:
        made: Callable[..., Any] = getattr(importlib.import_module(f"{PLACE}.{self.module}"), self.function)
        if self.wants_files:
            rows = made(files)
        else:
            from benchmarks.gpu.blocks import DEVICE

            rows = made(DEVICE)
        return _as_they_come(rows) if inspect.isasyncgen(rows) else rows


def _as_they_come(rows: AsyncGenerator[Row]) -> Iterator[Row]:
    from core.swarm.loop import new_event_loop

    async def following() -> Row | None:
        return await anext(rows, None)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        while (row := runner.run(following())) is not None:
            yield row


SECTIONS = {
    "parity": Section("layers", "parity", 80, wants_files=False),
    "decode": Section("layers", "decode_rows", 180, wants_files=False),
    "cap": Section("workers", "cap_rows", 150),
    "loading": Section("starting", "loading_rows", 60),
    "online": Section("starting", "online_rows", 130),
    "serving": Section("serving", "serving_rows", 120),
    "readings": Section("readings", "reading_rows", 60),
    "beside": Section("layers", "beside_rows", 60, wants_files=False),
    "petals": Section("petals", "petals_rows", 170, wants_files=False),
    "offloading": Section("layers", "offloaded", 60, wants_files=False),
    "ring": Section("workers", "ring_rows", 200),
    "release": Section("workers", "release_rows", 250),
    "shaped-nf4": Section("links", "shaped_nf4_rows", 150),
    "shaped-int8": Section("links", "shaped_int8_rows", 150),
}
SERVED = ("cap", "online", "ring", "release", "shaped-nf4", "shaped-int8")
"""Those for which checkpoints are made first."""
