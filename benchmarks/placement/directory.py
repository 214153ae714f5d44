"""What the directory costs each peer: ``python -m benchmarks.placement.directory [--donors N …]``.

Real nodes with a p2pd each, on loopback. Four hold the hash table, the others are clients of it, as donors
and readers are: each announces a record every 30 s, and reads all of a model's bands as often as a node and
its worker do. More donors are announced by peers of their own, that are not measured, so that keys are as
full as in a larger swarm.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.placement.__main__ import commit
from core.errors import SwarmError
from core.meter import Traffic
from core.node.node import LOOK_SECONDS
from core.paths import code
from core.swarm.guard import FULLEST
from core.swarm.identity import Identity
from core.swarm.p2p import HivemindPeer, start_peer
from core.swarm.pinger import READ_SECONDS, SELDOM
from core.swarm.traffic import Gauge
from core.swarm.watch import (
    RECORD_SECONDS,
    REFRESH_SECONDS,
    Announcer,
    Watcher,
    pause_after,
    spread,
)
from core.terms import DonorState, ModelRef, PeerId, Record, Span, WireDtype

MODEL = ModelRef("bigscience/bloom", "f" * 40, 72)
HOLDERS = 4
FEEDERS = 6
AT_ONCE = 6
LENGTHS = (2, 5, 7, 12)
"""Layers of cards of 8, 12, 16 and 24 GB."""
HEAD = """# What the directory costs a peer

{nodes} real nodes with a p2pd each on loopback, {holders} of which hold the hash table and the others are
its clients, as donors and readers are. Each client announces its record every {every:.0f} s, looks at all
{bands} bands of a model of 72 layers every {look:.0f} s as a node does that shows its swarm, and once a
minute as a worker that measures its neighbours; in a larger swarm no sooner than {record:g} s and
{seldom:g} s after for each record that there was. Other donors are announced besides, by peers that are not
measured. Bytes a second of TCP, headers and what is sent again included, both ways, as the kernel counts them
(median, most), over {seconds:.0f} s or as long as it is from one look to the next. The code: {commit}.

A key holds {fullest} entries at most, then one by chance makes room for each new one. What holders carry
grows with all who read and announce, those that are not measured here among them.

| donors | entries under a key | a client's bytes a second | a holder's, of all | donors read |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    donors: int
    entries: tuple[int, int]
    client: tuple[float, float]
    holder: tuple[float, float]
    read: tuple[float, float]

    @property
    def cells(self) -> str:
        values = list(asdict(self).values())
        shown = [
            ", ".join(f"{x:,.0f}" for x in one) if isinstance(one, tuple | list) else str(one)
            for one in values
        ]
        return f"| {' | '.join(shown)} |"


def record(peer: PeerId, chance: random.Random, addresses: Sequence[str] = ()) -> Record:
    """As large as those of real donors are."""
    length = chance.choice(LENGTHS)
    start = chance.randrange(MODEL.layers - length + 1)
    near = tuple((f"{chance.randrange(10**6):06}", chance.uniform(0.001, 0.2)) for _ in range(8))
    return Record(
        peer,
        MODEL,
        Span(start, start + length),
        DonorState.ONLINE,
        time.time(),
        time.time() + 90,
        step_seconds=chance.uniform(0.01, 0.1),
        decode_rate=chance.uniform(10, 100),
        prefill_rate=chance.uniform(100, 1000),
        free_tokens=chance.randrange(20_000),
        log_bytes=chance.randrange(4 * 10**9),
        quantization="nf4",
        wire=(WireDtype.BFLOAT16, WireDtype.FLOAT32),
        device="cuda:0",
        addresses=tuple(addresses) or (f"/ip4/203.0.113.7/tcp/4001/p2p/{peer}",),
        coordinate=tuple(chance.uniform(-0.1, 0.1) for _ in range(4)),
        coordinate_error=0.2,
        near=near,
        upload_rate=2.5e6,
        room=chance.randrange(24 * 10**9),
        version="0.1.0",
    )


@dataclass
class Nodes:
    holders: list[HivemindPeer]
    clients: list[HivemindPeer]
    feeders: list[HivemindPeer]


async def started(stack: AsyncExitStack, folder: Path, nodes: int) -> Nodes:
    made: list[HivemindPeer] = []
    for number in range(nodes + FEEDERS):
        peer = await start_peer(
            identity=folder / f"{number}.id",
            runtime=folder / "run",
            initial_peers=made[0].addresses if made else (),
            client_only=number >= HOLDERS,
        )
        stack.push_async_callback(peer.close)
        made.append(peer)
    return Nodes(made[:HOLDERS], made[HOLDERS:nodes], made[nodes:])


async def feed(feeder: HivemindPeer, donors: Sequence[Identity], ready: asyncio.Event) -> None:
    """Announces these, each anew before its record runs out."""
    chance = random.Random(len(donors))
    records = [(record(donor.peer_id, chance), donor) for donor in donors]
    at_once = asyncio.Semaphore(AT_ONCE)

    async def told(one: Record, donor: Identity) -> None:
        async with at_once:
            await feeder.directory.announce(one, donor)

    while True:
        began = time.monotonic()
        await asyncio.gather(*(told(one, donor) for one, donor in records))
        ready.set()
        await asyncio.sleep(max(0.0, 60.0 - (time.monotonic() - began)))


async def measure(nodes: Nodes, donors: int, seconds: float) -> Row:
    chance = random.Random(donors)
    async with AsyncExitStack() as stack:
        others = [Identity.make() for _ in range(max(0, donors - len(nodes.clients)))]
        events = []
        for number, feeder in enumerate(nodes.feeders):
            ready = asyncio.Event()
            feeding = asyncio.create_task(feed(feeder, others[number :: len(nodes.feeders)], ready))
            stack.callback(feeding.cancel)
            events.append(ready.wait())
        await asyncio.gather(*events)
        watchers = []
        for peer in nodes.clients:
            announcer = Announcer(peer.directory)
            announcer.update(record(peer.peer_id, chance, peer.addresses))
            stack.push_async_callback(announcer.end)
            watchers.append(Watcher(peer.directory, MODEL))
            stack.push_async_callback(watchers[-1].close)
            for looking in (look_around(watchers[-1]), measure_neighbours(peer)):
                stack.callback(asyncio.create_task(looking).cancel)
        # Dialling and the first reads are past, and all have come to their pace.
        await asyncio.sleep(REFRESH_SECONDS + pause_after(range(donors), 0.0))
        gauges = {peer: Gauge(within=True) for peer in (*nodes.holders, *nodes.clients)}
        before = {peer: look(gauge, peer) for peer, gauge in gauges.items()}
        seconds = max(seconds, pause_after(range(donors), 0.0))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(2.0)
            carried = {peer: look(gauge, peer) for peer, gauge in gauges.items()}
        rate = {peer: (total(carried[peer]) - total(before[peer])) / seconds for peer in gauges}
        sizes = [size for peer in nodes.holders for size in entries(peer)]
        found = [float(len(watcher.records)) for watcher in watchers]
    return Row(
        donors,
        (round(statistics.median(sizes)), max(sizes)),
        pair([rate[peer] for peer in nodes.clients]),
        pair([rate[peer] for peer in nodes.holders]),
        pair(found),
    )


async def look_around(watcher: Watcher) -> None:
    """As ``core.node.node`` does."""
    while True:
        with suppress(SwarmError):
            await watcher.glance(LOOK_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)


async def measure_neighbours(peer: HivemindPeer) -> None:
    """As often as ``core.swarm.pinger`` reads whom to measure."""
    found: Sequence[Record] = ()
    while True:
        with suppress(SwarmError):
            found = await peer.directory.read(MODEL)
        await asyncio.sleep(spread(pause_after(found, READ_SECONDS, SELDOM)))


def look(gauge: Gauge, peer: HivemindPeer) -> Traffic:
    if peer.pid is None:
        raise SystemExit("a p2pd has ended")
    return gauge.look(peer.pid)


def total(carried: Traffic) -> int:
    return carried.up + carried.down


def entries(holder: HivemindPeer) -> list[int]:
    """Under each of the keys that it holds."""
    storage = holder.directory._node.protocol.storage
    return [len(value.value) for _, value in storage.items() if hasattr(value.value, "items")]


def pair(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), max(values)


async def run(given: argparse.Namespace) -> None:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        async with AsyncExitStack() as stack:
            made = await started(stack, Path(folder), given.nodes)
            for count in given.donors:
                rows.append(await measure(made, count, given.seconds))
                print(rows[-1].cells, flush=True)
                write(rows, given)


def write(rows: Sequence[Row], given: argparse.Namespace) -> None:
    head = HEAD.format(
        nodes=given.nodes,
        holders=HOLDERS,
        bands=-(-MODEL.layers // 8),
        every=REFRESH_SECONDS,
        look=LOOK_SECONDS,
        record=RECORD_SECONDS,
        seldom=SELDOM * RECORD_SECONDS,
        seconds=given.seconds,
        fullest=FULLEST,
        commit=commit(),
    )
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "directory.md").write_text(head + "\n".join(row.cells for row in rows) + "\n", "utf-8")
    told = json.dumps({"rows": [asdict(row) for row in rows]}, indent=1)
    (given.out / "directory.json").write_text(told + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement.directory")
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--donors", type=int, nargs="+", default=[16, 150, 600])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=code() / "benchmarks" / "results")
    given = parser.parse_args()
    os.nice(5)
    asyncio.run(run(given))


if __name__ == "__main__":
    main()
