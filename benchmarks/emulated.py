"""A ring in this process over a swarm in memory, every layer on two donors that can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import torch

from core.model.config import read_config, ref
from core.model.span import SpanModel
from core.routing.connections import Connections
from core.routing.opening import Way
from core.routing.planner import Planner
from core.routing.session import Session
from core.serving.donor import Donor, DonorOptions
from core.swarm.fake import FakePeer, FakeSwarm
from core.terms import PeerId, Route, Span

OPTIONS = DonorOptions(cache_tokens=8192, places=8, speculate=False)


class EmulatedRing:
    """Made by ``emulated_ring``."""

    def __init__(self, folder: Path) -> None:
        self.config, self._folder = read_config(folder), folder
        self._swarm = FakeSwarm()
        client = self._swarm.peer()
        self._connections = Connections(client)
        self._planner = Planner(client, ref(self.config), self.config.hidden, self._connections)
        self._donors: dict[PeerId, Donor] = {}
        self._models: dict[Span, SpanModel] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._sessions = 0

    async def add(self, span: Span) -> None:
        """One more donor. Those of a span share its weights."""
        if span not in self._models:
            self._models[span] = SpanModel.load(self._folder, span, dtype=torch.float32)
        donor = Donor(self._swarm.peer(), self._models[span], OPTIONS)
        await donor.start()
        self._donors[donor.peer.peer_id] = donor

    def kill(self, peer: PeerId) -> None:
        """As SIGKILL: its streams break, its record stays. Another begins to start in its place."""
        donor = self._donors.pop(peer, None)
        if donor is None:
            return
        assert isinstance(donor.peer, FakePeer)
        donor.peer.kill()
        donor.sessions.close()
        donor.engine.close()
        task = asyncio.create_task(self._replace(donor))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _replace(self, donor: Donor) -> None:
        await self.add(donor.model.span)
        await donor.stop()

    async def mended(self) -> None:
        """Returns when every killed donor has a successor."""
        await asyncio.gather(*self._starting)

    def session(self) -> Session:
        self._sessions += 1
        number = self._sessions

        async def way(avoid: frozenset[PeerId], before: Route | None) -> Way:
            return await self._planner.way(number, avoid, before)

        return Session(self._connections, way, self.config.max_length, report=self._planner.trouble)

    async def close(self) -> None:
        await self.mended()
        self._connections.close()
        await self._planner.close()
        for donor in self._donors.values():
            await donor.stop()


@asynccontextmanager
async def emulated_ring(folder: Path, spans: Sequence[Span]) -> AsyncIterator[EmulatedRing]:
    """Two donors for each span."""
    torch.set_num_threads(1)
    ring = EmulatedRing(folder)
    try:
        for span in (*spans, *spans):
            await ring.add(span)
        yield ring
    finally:
        await ring.close()
