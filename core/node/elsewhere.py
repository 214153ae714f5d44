"""The swarm's other models: what they are, and who holds them. Read when somebody looks, not before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from core.swarm.peer import Directory
from core.terms import ModelRef, Record

MOST = 12
"""Models of one swarm that are read; anybody may announce one."""
MOST_LAYERS = 1024
READ_SECONDS = 15.0


class Elsewhere:
    """Holds what was read for a while: a page that is open asks every few seconds."""

    def __init__(
        self, directory: Directory, own: ModelRef, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory, self._own, self._clock = directory, own, clock
        self._known: Mapping[ModelRef, tuple[Record, ...]] = {}
        self._read_at = -READ_SECONDS
        self._turn = asyncio.Lock()

    async def models(self) -> Mapping[ModelRef, tuple[Record, ...]]:
        """With their donors' records. Raises ``SwarmError``."""
        async with self._turn:
            if self._clock() - self._read_at >= READ_SECONDS:
                self._known = await self._read()
                self._read_at = self._clock()
        return self._known

    async def _read(self) -> dict[ModelRef, tuple[Record, ...]]:
        named = [
            model
            for model in await self._directory.models()
            if model != self._own and model.layers <= MOST_LAYERS
        ]
        chosen = sorted(named, key=lambda model: (model.model_id, model.revision))[:MOST]
        found = await asyncio.gather(*map(self._directory.read, chosen))
        return {model: records for model, records in zip(chosen, found, strict=True) if records}
