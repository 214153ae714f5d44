"""A real swarm for benchmarks: donors in worker processes of their own, the client in this process.

    async with workers(folder, split(layers, 3), dtype="bfloat16", threads=1) as swarm:
        timing = await swarm.answer(ids, count=32)

This process must run on uvloop (``core.swarm.loop``), as the node does.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.measure import Timing
from core.errors import SwarmError
from core.model.config import ModelConfig, read_config, ref
from core.ring.client import CHUNK
from core.routing.connections import Connections
from core.routing.opening import Way
from core.routing.planner import bytes_a_row, sends_slowly
from core.routing.route import plan
from core.routing.session import Session
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import start_peer
from core.swarm.peer import Peer
from core.terms import DonorState, PeerId, Record, Route, Sampling, Span, Token

Dtype = Literal["float32", "bfloat16"]

GREEDY = Sampling()
READ_SECONDS = 20.0
"""Records live for 90 s."""


class Swarm:
    """The client's side, and who the donors are; made by ``workers``."""

    def __init__(self, peer: Peer, config: ModelConfig, donors: Sequence[Worker], chunk: int) -> None:
        self.peer, self.config, self.donors, self.chunk = peer, config, donors, chunk
        self.connections = Connections(peer)
        self.records: tuple[Record, ...] = ()
        self._looked_at = -READ_SECONDS
        self.moves = 0
        """How often a route has changed under an answer, which such a benchmark does not mean to measure."""
        self.may_narrow = True
        """Whether prompts go in int8 blocks where the planner would have them so."""

    async def answer(self, ids: Sequence[int], count: int) -> Timing:
        """One answer in a session of its own; opening it is part of the time to the first token."""
        session = self.session()
        asked, times, tokens = time.perf_counter(), [], []
        try:
            async for token in session.answer(ids, GREEDY, count, frozenset()):
                if isinstance(token, Token):
                    times.append(time.perf_counter())
                    tokens.append(token.token_id)
        finally:
            session.close()
        self.moves += session.moves
        if len(tokens) != count:
            raise RuntimeError(f"{len(tokens)} of {count} tokens came")
        return Timing(asked, tuple(times), tuple(tokens))

    def session(self) -> Session:
        return Session(self.connections, self._way, self.config.max_length, chunk=self.chunk)

    async def look(self) -> tuple[Record, ...]:
        """The donors' records as they are now, in the order of their spans."""
        found = await self.peer.directory.read(ref(self.config))
        self._looked_at = time.monotonic()
        self.records = tuple(
            sorted(
                (record for record in found if record.state is DonorState.ONLINE),
                key=lambda record: record.span.start,
            )
        )
        return self.records

    def cpu_seconds(self) -> float:
        """Processor time so far of all of the swarm's processes, this one and every p2pd included."""
        trees = [psutil.Process(), *(psutil.Process(donor.process.pid) for donor in self.donors)]
        parts = {part.pid: part for tree in trees for part in (tree, *_network(tree))}
        return sum(sum(part.cpu_times()[:2]) for part in parts.values())

    async def _way(self, avoid: frozenset[PeerId], _before: Route | None = None) -> Way:
        if avoid or time.monotonic() - self._looked_at > READ_SECONDS:  # as the node does, ahead of time
            await self.look()
        route = plan(self.records, self.config.layers, avoid=avoid)
        used = {stage.peer_id for stage in route.stages}
        chosen = {record.peer_id: record for record in self.records if record.peer_id in used}
        sealed = {peer: self.peer.directory.sealed(record) for peer, record in chosen.items()}
        slow = sends_slowly(route, chosen, bytes_a_row(chosen.values(), self.config.hidden))
        return Way(route, chosen, sealed, narrow=self.may_narrow and slow)


@asynccontextmanager
async def workers(
    folder: Path,
    spans: Sequence[Span],
    *,
    dtype: Dtype,
    threads: int,
    host: str = "127.0.0.1",
    chunk: int = CHUNK,
    cache_tokens: int = 16_384,
    speculate: bool = False,
    more: Mapping[str, Any] = {},
) -> AsyncIterator[Swarm]:
    """A donor for each span of the checkpoint in ``folder``, all serving when entered. Speculation is
    off unless asked for: random weights repeat themselves, which no text does. ``more`` are further fields of
    ``WorkerConfig``. A donor that cannot
    start raises ``WorkerFailed`` with its words."""
    async with AsyncExitStack() as stack:
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        donors: list[Worker] = []
        stack.push_async_callback(_stop, donors)
        for number in range(len(spans)):
            donor = await Worker.start(log=runtime / f"donor-{number}.log", threads=threads, remove=runtime)
            donors.append(donor)  # at once: one that follows may fail to start
        peer = await start_peer(identity=runtime / "client.key", runtime=runtime, host=host)
        stack.push_async_callback(peer.close)
        for number, (donor, span) in enumerate(zip(donors, spans, strict=True)):
            donor.configure(
                WorkerConfig(
                    model=str(folder),
                    span=(span.start, span.end),
                    identity=str(runtime / f"donor-{number}.key"),
                    runtime=str(runtime),
                    peers=tuple(peer.addresses),
                    host=host,
                    dtype=dtype,
                    cache_tokens=cache_tokens,
                    threads=threads,
                    speculate=speculate,
                    **more,
                )
            )
        await asyncio.gather(*(donor.online() for donor in donors))
        swarm = Swarm(peer, read_config(folder), donors, chunk)
        stack.callback(swarm.connections.close)
        if len(await swarm.look()) < len(spans):
            raise SwarmError("not every donor's record can be read")
        yield swarm


def _network(process: psutil.Process) -> list[psutil.Process]:
    return [part for part in process.children() if part.name() == "p2pd"]


async def _stop(donors: Sequence[Worker]) -> None:
    await asyncio.gather(*(donor.stop() for donor in donors))


def split(layers: int, donors: int) -> tuple[Span, ...]:
    """Near-equal spans for that many donors."""
    cuts = [round(layers * number / donors) for number in range(donors + 1)]
    return tuple(Span(start, end) for start, end in pairwise(cuts))
