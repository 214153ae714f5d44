"""Reading a few words through the swarm now and then, while this PC gives and its owner does not read.

Only readers find out whether donors serve what they announce, as fast as they say. A PC that gives and never
reads would believe all of them, and place its layers by that. So it reads as a stranger would; what that
shows it learns as from any answer (``core.routing.seen``).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Collection
from typing import Protocol

from core.errors import IdlebloomError
from core.routing.ask import Ask, Event, Ids
from core.swarm.watch import spread
from core.terms import PeerId, Record, Sampling

log = logging.getLogger(__name__)

TRIAL_SECONDS = 1200.0
"""Between two trials, or an answer of the owner's and a trial: 16 tokens a donor in that time are half a
percent of what cards of home PCs carry of BLOOM."""
LONGEST_SECONDS = 120.0
TOKENS = 16
PROMPT = Ids((1, 2, 3, 4))
"""Any tokens do: nobody reads the answer."""


class Reader(Protocol):
    """What it needs of ``core.routing.generate.Generator``."""

    answered_at: float

    def generate(self, ask: Ask) -> AsyncIterator[Event]: ...
    async def records(self) -> tuple[Record, ...]: ...


class Trial:
    """Over ``reader``; ``own`` are the donors of this PC itself."""

    def __init__(self, reader: Reader, own: Collection[PeerId]) -> None:
        self._reader, self._own = reader, own

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(spread(TRIAL_SECONDS))
            if time.monotonic() - self._reader.answered_at >= TRIAL_SECONDS:
                try:
                    await self._read()
                except (IdlebloomError, TimeoutError) as error:  # who failed is known now
                    log.info("a trial of the swarm: %s", error)

    async def _read(self) -> None:
        if {record.peer_id for record in await self._reader.records()} <= set(self._own):
            return
        # A drawn text repeats itself less: its rounds are of one token, as most are.
        sampling = Sampling(temperature=1.0, seed=random.getrandbits(32))
        async with asyncio.timeout(LONGEST_SECONDS):
            async for _ in self._reader.generate(Ask(PROMPT, max_tokens=TOKENS, sampling=sampling)):
                pass
