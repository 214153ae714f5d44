"""Reading a few words through the swarm now and then, while this PC gives.

Only readers find out whether donors serve what they announce, as fast as they say. A PC that gives and never
reads would believe all of them, and place its layers by that; and one that reads takes the best routes, and
never meets the others. So it reads as a stranger would, over whom it knows least; what that shows it learns
as from any answer (``core.routing.seen``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from typing import Protocol

from core.errors import SwarmError
from core.routing.curious import leading_over, least_known, unknown
from core.routing.seen import Experience, Seen
from core.serving.levels import CROWD
from core.swarm.watch import spread
from core.terms import PeerId, Record

log = logging.getLogger(__name__)

EVERY_SECONDS = 1200.0
"""Between two trials: 16 tokens a donor in that time are half a percent of what cards of home PCs carry of
BLOOM."""
EAGER_SECONDS = 300.0
"""As long as there are donors that this PC never met, or that failed and may yet have had bad luck, in a
swarm of so few that it can know them all."""


class Reader(Protocol):
    """What it needs of ``core.routing.generate.Generator``."""

    @property
    def experience(self) -> Experience: ...
    async def read_over(self, records: Collection[Record]) -> Collection[PeerId]: ...
    async def records(self) -> Collection[Record]: ...


class Trial:
    """Over ``reader``; ``own`` are the donors of this PC itself."""

    def __init__(self, reader: Reader, own: Collection[PeerId]) -> None:
        self._reader, self._own = reader, own
        self._chance = random.Random()

    async def run(self) -> None:
        """Until it is cancelled."""
        seconds = EAGER_SECONDS
        while True:
            await asyncio.sleep(spread(seconds))
            try:
                records = await self._reader.records()
            except SwarmError as error:
                log.info("no trial of the swarm: %s", error)
                continue
            seen = self._reader.experience.seen
            one = least_known(records, seen, self._own, self._chance)
            if one is not None:
                await self._reader.read_over(leading_over(one, records, self._chance))
            seconds = every(records, seen, self._own)


def every(records: Collection[Record], seen: Seen, own: Collection[PeerId]) -> float:
    """Seconds until the next."""
    few = len(records) <= CROWD
    return EAGER_SECONDS if few and unknown(records, seen, own) else EVERY_SECONDS
