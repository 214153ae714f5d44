"""The two ends of a neighbourhood in a ring, each on a host of its own: a donor's real links, meter and p2pd,
without an engine behind them, so that prompts come as fast as they are let.

python -m benchmarks.caps.ends takes FOLDER ADDRESS CAP      (prints its addresses; takes frames)
python -m benchmarks.caps.ends sends FOLDER ADDRESS CAP PEER ADDRESSES
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial
from pathlib import Path

from core.meter import Caps
from core.ring.frames import Ack, Frame, Lane
from core.serving.links import Link, LinkEvents, Links
from core.serving.metering import Metering
from core.swarm.frames import HEADER, LANES, Dtype, pack_ack, read_header
from core.swarm.loop import new_event_loop
from core.swarm.p2p import HivemindPeer, start_peer
from core.swarm.peer import Stream, StreamClosed
from core.terms import PeerId

SESSION = b"s" * 16
STEP_BYTES, STEP_SECONDS = 4096, 0.05
CHUNK_BYTES, WINDOW = 256 << 10, 2


async def _peer(folder: Path, name: str, address: str) -> HivemindPeer:
    return await start_peer(
        identity=folder / f"{name}.key", runtime=folder / "run", host=address, reach="public"
    )


def _hold(metering: Metering, peer: HivemindPeer, caps: Caps) -> None:
    metering.pid = lambda: peer.pid
    metering.hold(caps)
    metering.start()


async def takes(folder: Path, address: str, cap: float) -> None:
    peer = await _peer(folder, "takes", address)
    metering = Metering()
    _hold(metering, peer, Caps(None, cap or None))

    async def serve(stream: Stream, lane: Lane) -> None:
        try:
            while True:
                header = await read_header(stream)
                count = HEADER.size + header.length
                if lane is Lane.BULK:
                    await metering.takes_bulk(count)
                else:
                    metering.takes_step(count)
                await stream.read(header.length)
                stream.write(pack_ack(Ack(SESSION, 1, 1, lane, header.hop, header.hop)))
        except StreamClosed:
            pass

    for lane in Lane:
        await peer.serve(LANES[lane], partial(serve, lane=lane))
    print(json.dumps([peer.peer_id, list(peer.addresses)]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await peer.close()


class Sender:
    """Answers' steps one after the other, and prompts beside them while told to."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._lines: dict[Lane, Link] = {}
        self.hops = dict.fromkeys(Lane, 0)
        self.acked = dict.fromkeys(Lane, 0)
        self.heard = asyncio.Event()
        self.loads = False

    def acknowledged(self, _: PeerId, ack: Ack) -> None:
        self.acked[ack.lane] = max(self.acked[ack.lane], ack.received)
        self.heard.set()

    async def open(self, peer: PeerId, addresses: list[str]) -> None:
        for lane in Lane:
            self._lines[lane] = await self._links.open(peer, addresses, lane)

    def send(self, lane: Lane, size: int) -> None:
        self.hops[lane] += 1
        frame = Frame(SESSION, 1, 1, lane, self.hops[lane], 0, 0, 1, bytes(size))
        self._lines[lane].send(frame, Dtype.BFLOAT16)

    async def decode(self) -> None:
        while True:
            began = time.monotonic()
            self.send(Lane.DECODE, STEP_BYTES)
            await self._until(lambda: self.acked[Lane.DECODE] == self.hops[Lane.DECODE])
            await asyncio.sleep(max(0.0, began + STEP_SECONDS - time.monotonic()))

    async def prompts(self) -> None:
        while True:
            await self._until(lambda: self.loads and self.hops[Lane.BULK] - self.acked[Lane.BULK] < WINDOW)
            self.send(Lane.BULK, CHUNK_BYTES)

    async def _until(self, holds: object) -> None:
        while not holds():  # type: ignore[operator]
            self.heard.clear()
            await self.heard.wait()


async def sends(folder: Path, address: str, cap: float, there: PeerId, addresses: list[str]) -> None:
    """Lines of standard input begin a phase (``load`` or ``alone``); each is answered with the steps of an
    answer since the line before, and the seconds."""
    peer = await _peer(folder, "sends", address)
    events = LinkEvents(lambda *_: None, lambda *_: None, lambda *_: None, lambda *_: None)
    links = Links(peer, events)
    sender = Sender(links)
    events.acknowledged = sender.acknowledged
    _hold(links.metering, peer, Caps(cap or 1e5, None))
    await sender.open(there, addresses)
    tasks = [asyncio.create_task(sender.decode()), asyncio.create_task(sender.prompts())]
    steps, since = 0, time.monotonic()
    print("ready", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        now = time.monotonic()
        print(json.dumps([sender.acked[Lane.DECODE] - steps, now - since]), flush=True)
        steps, since = sender.acked[Lane.DECODE], now
        sender.loads = line == "load"
        sender.heard.set()
    for task in tasks:
        task.cancel()
    await peer.close()


def main() -> None:
    what, folder, address, cap, *rest = sys.argv[1:]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if what == "takes":
            runner.run(takes(Path(folder), address, float(cap)))
        else:
            runner.run(sends(Path(folder), address, float(cap), PeerId(rest[0]), json.loads(rest[1])))


if __name__ == "__main__":
    main()
