"""Layers that will be needed are fetched while the owner is here, too."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import replace

from core.errors import IdlebloomError
from core.node.giver import Giver
from core.node.node import Node
from core.settings import Settings
from core.terms import Because, Progress, Reason

log = logging.getLogger(__name__)

FETCH_AGAIN_SECONDS = 600.0
NO_FETCHING = frozenset({Reason.NO_CONSENT, Reason.PAUSED})
"""The owner's words that layers are not fetched against either."""


class Ahead:
    """Of ``node``, through ``giver``; one fetch at a time, and no other until a setting changes."""

    def __init__(self, node: Node, giver: Giver) -> None:
        self._node, self._giver = node, giver
        self._task: asyncio.Task[None] | None = None
        self.after = -math.inf
        """On the monotonic clock: not before."""

    def look(self, settings: Settings, because: Because | None, may: bool) -> None:
        """Begins, or stops: unless the owner or the network speaks against it. ``because``: why nothing is
        given now."""
        may = may and because is not None and because.kind not in NO_FETCHING and not self._node.gives
        if self._task is not None:
            if not may:
                self._task.cancel()
        elif may and time.monotonic() >= self.after:
            self._task = asyncio.create_task(self._fetch(settings), name="fetch ahead")

    async def stop(self) -> None:
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _fetch(self, settings: Settings) -> None:
        self.after = time.monotonic() + FETCH_AGAIN_SECONDS
        try:
            await self._giver.fetch(settings, self._show)
            self.after = math.inf  # until a setting changes
        except IdlebloomError as error:
            log.warning("layers could not be fetched ahead: %s", error)
        finally:
            self._task = None
            if not self._node.gives:
                self._node.publish(replace(self._node.untroubled, progress=None))

    def _show(self, progress: Progress) -> None:
        self._node.publish(replace(self._node.untroubled, progress=progress))
