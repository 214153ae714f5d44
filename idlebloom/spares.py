"""A spare for one of the demo's donors, and pulling the plug of the donor that has one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from core.errors import IdlebloomError
from core.serving.supervisor import Worker
from core.terms import PeerId

if TYPE_CHECKING:
    from idlebloom.demo_swarm import DemoSwarm

START_SECONDS = 60.0


class Spares:
    """Flask's threads call it; the workers belong to the demo's loop."""

    def __init__(self, demo: DemoSwarm) -> None:
        self._demo = demo
        self._loop = asyncio.get_running_loop()
        self._pair: tuple[Worker, Worker] | None = None

    def start_spare(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(START_SECONDS)

    async def _start(self) -> None:
        """For a donor in the middle of the model: it sees neither the first nor the last words."""
        demo = self._demo
        number = len(demo.plan.spans) // 2
        donor = demo.holder(number)
        if donor is None:
            raise IdlebloomError("the demo is ending")
        spare = await demo.add_worker(number)
        try:
            await demo.serves(spare)
        except BaseException:
            await demo.remove_worker(spare)
            raise
        self._pair = (donor, spare)

    def unplug(self, route: Collection[PeerId]) -> PeerId | None:
        for worker in self._pair or ():
            if worker.peer_id in route:
                self._pair = None
                self._demo.unplugged.add(worker)
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGKILL)
                return worker.peer_id
        return None
