"""Donors on hosts of their own, and this process as the client on another.

async with wide_swarm(net, folder, donors, dtype="bfloat16", threads=1) as swarm:
    timing = await swarm.answer(ids, count=24)
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.internet.network import Internet
from benchmarks.internet.router import inside
from benchmarks.swarm_of_workers import Dtype, Swarm
from benchmarks.wide_area.paced import Pace
from core.errors import SwarmError
from core.model.config import read_config
from core.ring.client import CHUNK
from core.serving.orders import WorkerConfig
from core.serving.supervisor import COMMAND, Worker
from core.swarm.daemon import FOR_MEMBERS
from core.swarm.p2p import start_peer
from core.terms import PeerId, Record, Span

CLIENT = "client"
RELAY_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """A donor: its host, its layers, whether its tail proposes tokens, and the time its engine takes if
    that is emulated."""

    host: str
    span: Span
    speculate: bool = False
    pace: Pace | None = None


class WideSwarm(Swarm):
    """``donors`` by host; a view of it plans over some of them alone."""

    hosts: dict[str, PeerId]
    only: frozenset[PeerId] | None = None

    def view(self, hosts: Sequence[str], chunk: int | None = None) -> WideSwarm:
        """The same client, connections and all, but only those donors, and prompts cut otherwise."""
        other = WideSwarm(self.peer, self.config, self.donors, chunk or self.chunk)
        other.connections.close()
        other.connections, other.hosts = self.connections, self.hosts
        other.only = frozenset(self.hosts[host] for host in hosts)
        return other

    async def until_reached(self, hosts: Sequence[str]) -> None:
        """Returns when the records of these hosts' donors name a relay, or raises ``SwarmError``."""
        until = time.monotonic() + RELAY_SECONDS
        while time.monotonic() < until:
            reach = {record.peer_id: record.reach for record in await self.look()}
            if all(reach.get(self.hosts[host]) == "relay" for host in hosts):
                return
            await asyncio.sleep(1)
        raise SwarmError("who is behind NAT has found no relay")

    async def look(self) -> tuple[Record, ...]:
        records = await super().look()
        if self.only is not None:
            self.records = tuple(record for record in records if record.peer_id in self.only)
        return self.records


@asynccontextmanager
async def wide_swarm(
    net: Internet,
    folder: Path,
    places: Sequence[Place],
    *,
    dtype: Dtype,
    threads: int,
    chunk: int = CHUNK,
    more: Mapping[str, Any] = {},
) -> AsyncIterator[WideSwarm]:
    """All donors serve when entered. Meanwhile this thread is on the host ``client``, which is also the
    meeting point and relays to who is behind NAT. ``more`` are further fields of ``WorkerConfig``."""
    async with AsyncExitStack() as stack:
        stack.enter_context(inside(net.namespace(CLIENT)))
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wide-")))
        donors: list[Worker] = []
        stack.push_async_callback(_stop, donors)
        for place in places:
            donors.append(  # noqa: PERF401 - at once: one that follows may fail to start
                await Worker.start(
                    log=runtime / f"{place.host}.log",
                    threads=threads,
                    command=(*net.prefix(place.host), *_command(place.pace)),
                )
            )
        peer = await start_peer(
            identity=runtime / "client.key",
            runtime=runtime,
            host=net.address(CLIENT),
            reach="public",
            relaying=FOR_MEMBERS,
        )
        stack.push_async_callback(peer.close)
        for donor, place in zip(donors, places, strict=True):
            donor.configure(
                WorkerConfig(
                    model=str(folder),
                    span=(place.span.start, place.span.end),
                    identity=str(runtime / f"{place.host}.key"),
                    runtime=str(runtime),
                    peers=tuple(peer.addresses),
                    host=net.address(place.host),
                    dtype=dtype,
                    threads=threads,
                    speculate=place.speculate,
                    **more,
                )
            )
        ids = await asyncio.gather(*(donor.online() for donor in donors))
        swarm = WideSwarm(peer, read_config(folder), donors, chunk)
        stack.callback(swarm.connections.close)
        swarm.hosts = {place.host: peer_id for place, peer_id in zip(places, ids, strict=True)}
        if len(await swarm.look()) < len(places):
            raise SwarmError("not every donor's record can be read")
        yield swarm


def _command(pace: Pace | None) -> tuple[str, ...]:
    if pace is None:
        return COMMAND
    return (sys.executable, "-m", "benchmarks.wide_area.paced", *pace.words())


async def _stop(donors: Sequence[Worker]) -> None:
    await asyncio.gather(*(donor.stop() for donor in donors))
