"""Serving other layers while it runs: looking where this PC's donor would do most, fetching, going there.

A donor makes before it breaks: it serves what it has while the layers that it goes to are fetched, tells
others where it is going, and leaves nothing that somebody still needs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from core.errors import IdlebloomError
from core.node.delivery import Report
from core.serving.choose import alone
from core.serving.supervisor import WorkerFailed
from core.swarm.watch import spread
from core.terms import Span

log = logging.getLogger(__name__)

LOOK_SECONDS = 300.0
"""Between two looks at the swarm;"""
HURRY_SECONDS = 30.0
"""and while layers have no donor, or the new ones are here and it waits until it may go."""
KNOWN_SECONDS = 60.0
"""For so long others have to be told where it goes before it leaves a layer: several times what a record
takes to reach those who read anew, and what a donor takes from reading to saying that it has gone."""


class Options(Protocol):
    """What a donor may do, under the settings and the budget of this moment."""

    async def elsewhere(self, goal: Span, *, alone: bool) -> Span | None:
        """Where one that serves ``goal``, or fetches it, should rather be; ``None``: there. ``alone``: it
        counts on nobody else to move."""

    async def may_leave(self, serving: Span, goal: Span, *, known: bool) -> bool:
        """Whether nobody needs it any more for what it would drop; ``known``: others have long been told
        where it goes."""

    async def fetch(self, span: Span, report: Report) -> None:
        """Have the layers on the disk."""

    async def move(self, span: Span) -> None:
        """Serve them instead."""


class Donor(Protocol):
    """What it needs of the node."""

    @property
    def serving(self) -> Span | None:
        """What is served in full, ``None`` while nothing is, or more is on its way."""

    @property
    def whole(self) -> bool:
        """Whether all layers have a donor that can be believed."""

    def goes(self, span: Span | None) -> None:
        """Tell others where it is going."""

    def report(self) -> Report: ...


class Mover:
    """Runs until it is cancelled. ``options`` is asked anew for each look."""

    def __init__(self, donor: Donor, options: Callable[[], Awaitable[Options]]) -> None:
        self._donor, self._options = donor, options
        self._whole_at = time.monotonic()

    async def run(self) -> None:
        next_look = time.monotonic() + spread(LOOK_SECONDS)
        while True:
            await asyncio.sleep(spread(HURRY_SECONDS))
            serving = self._donor.serving
            if serving is None or (self._donor.whole and time.monotonic() < next_look):
                continue
            next_look = time.monotonic() + spread(LOOK_SECONDS)
            try:
                options = await self._options()
                goal = await options.elsewhere(serving, alone=self._alone)
                if goal is not None:
                    await self.go(options, serving, goal)
            except (IdlebloomError, WorkerFailed) as error:
                log.warning("it stays where it is: %s", error)

    @property
    def _alone(self) -> bool:
        if self._donor.whole:
            self._whole_at = time.monotonic()
        return alone(time.monotonic() - self._whole_at, time.time())

    async def go(self, options: Options, serving: Span, goal: Span) -> None:
        """From ``serving`` to ``goal``, unless it should be elsewhere before it is there."""
        log.info("going from %s to %s", serving, goal)
        self._donor.goes(goal)
        told_at = time.monotonic()
        fetching = asyncio.create_task(options.fetch(goal, self._donor.report()))
        try:
            lonely = self._alone
            while self._donor.serving == serving and await options.elsewhere(goal, alone=lonely) is None:
                if not fetching.done():
                    await asyncio.wait({fetching}, timeout=spread(LOOK_SECONDS))
                    continue
                fetching.result()
                known = time.monotonic() - told_at >= KNOWN_SECONDS
                if await options.may_leave(serving, goal, known=known):
                    if self._donor.serving == serving:  # finding that out took a while
                        await options.move(goal)
                    return
                await asyncio.sleep(spread(HURRY_SECONDS))
        finally:
            fetching.cancel()
            if self._donor.serving == serving:
                self._donor.goes(None)
