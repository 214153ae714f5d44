"""Reading a few words through the swarm now and then, while this PC gives and its owner does not read.

Only readers find out whether donors serve what they announce, as fast as they say. A PC that gives and never
reads would believe all of them, and place its layers by that. So it reads as a stranger would; what that
shows it learns as from any answer (``core.routing.seen``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Protocol

from core.errors import SwarmError
from core.swarm.watch import spread
from core.terms import PeerId, Record

log = logging.getLogger(__name__)

EVERY_SECONDS = 1200.0
"""Between two trials, or an answer of the owner's and a trial: 16 tokens a donor in that time are half a
percent of what cards of home PCs carry of BLOOM."""


class Reader(Protocol):
    """What it needs of ``core.routing.generate.Generator``."""

    answered_at: float

    async def read_over(self, records: Collection[Record]) -> Collection[PeerId]: ...
    async def records(self) -> Collection[Record]: ...


class Trial:
    """Over ``reader``; ``own`` are the donors of this PC itself."""

    def __init__(self, reader: Reader, own: Collection[PeerId]) -> None:
        self._reader, self._own = reader, own

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(spread(EVERY_SECONDS))
            if time.monotonic() - self._reader.answered_at < EVERY_SECONDS:
                continue
            try:
                records = await self._reader.records()
            except SwarmError as error:
                log.info("no trial of the swarm: %s", error)
                continue
            if {record.peer_id for record in records} - set(self._own):
                await self._reader.read_over(records)
