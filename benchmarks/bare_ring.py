"""hivemind's bare ring: what its streams alone cost, to be read beside our own numbers.

Three processes, each with hivemind's ``P2P`` on its own uvloop and a binary stream handler that
passes each frame to the next. Prints JSON: the median time of a loop and of a hop, in µs.

    python benchmarks/bare_ring.py [--loops 500] [--ours]

``--ours`` runs the same ring over ``core.swarm``'s peers instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES = (2048, 28672)
MEMBERS = 3
WARM_UP = 50
PROTOCOL = "bare-ring"


class BareMember:
    """hivemind as it comes."""

    async def start(self, folder: Path, number: int, handler: Callable[..., Awaitable[None]]) -> list[str]:
        from hivemind.p2p import P2P

        self.p2p = await P2P.create(host_maddrs=["/ip4/127.0.0.1/tcp/0"], nat_port_map=False)

        async def handle(info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await handler(reader.readexactly, writer.write)

        await self.p2p.add_binary_stream_handler(PROTOCOL, handle)
        return [str(address) for address in await self.p2p.get_visible_maddrs()]

    async def open(self, addresses: list[str]) -> Callable[[bytes], None]:
        from hivemind.p2p import PeerID
        from hivemind.utils.multiaddr import Multiaddr

        address = Multiaddr(addresses[0])
        peer_id = PeerID.from_base58(address["p2p"])
        await self.p2p._client.connect(peer_id, [address.decapsulate("/p2p/" + address["p2p"])])
        _, _, self.writer = await self.p2p.call_binary_stream_handler(peer_id, PROTOCOL)
        return self.writer.write

    async def close(self) -> None:
        await self.p2p.shutdown()


class OurMember:
    """The same over ``core.swarm``."""

    async def start(self, folder: Path, number: int, handler: Callable[..., Awaitable[None]]) -> list[str]:
        from core.swarm.p2p import start_peer

        self.peer = await start_peer(identity=folder / f"{number}.id", runtime=folder)
        await self.peer.serve(PROTOCOL, lambda stream: handler(stream.read, stream.write))
        return list(self.peer.addresses)

    async def open(self, addresses: list[str]) -> Callable[[bytes], None]:
        from core.swarm.addresses import split_peer

        self.stream = await self.peer.dial(split_peer(addresses[0])[1], addresses, PROTOCOL)
        return self.stream.write

    async def close(self) -> None:
        await self.peer.close()


async def member(kind: type, folder: Path, number: int, pipe: Connection, loops: int) -> None:
    """One process of the ring; number 0 times the loops."""
    loop = asyncio.get_running_loop()
    came_round: asyncio.Queue[int] = asyncio.Queue()
    send: asyncio.Future[Callable[[bytes], None]] = loop.create_future()

    async def handler(read: Callable[[int], Awaitable[bytes]], _write: object) -> None:
        pass_on = await send
        while True:
            header = await read(4)
            body = await read(int.from_bytes(header))
            if number == 0:
                came_round.put_nowait(len(body))
            else:
                pass_on(header + body)

    mine = kind()
    pipe.send(await mine.start(folder, number, handler))
    send.set_result(await mine.open(await asyncio.to_thread(pipe.recv)))
    if number == 0:
        pipe.send({str(size): await measure(send.result(), came_round, size, loops) for size in SIZES})
    await asyncio.to_thread(pipe.recv)  # the word to end
    await mine.close()


async def measure(
    send: Callable[[bytes], None], came_round: asyncio.Queue[int], size: int, loops: int
) -> dict[str, float]:
    frame, times = size.to_bytes(4) + os.urandom(size), []
    for _ in range(WARM_UP + loops):
        started = time.perf_counter()
        send(frame)
        if await came_round.get() != size:
            raise RuntimeError("a frame came back with another size")
        times.append(time.perf_counter() - started)
    times = sorted(times[WARM_UP:])
    median = statistics.median(times) * 1e6
    return {
        "loop_us": round(median, 1),
        "hop_us": round(median / MEMBERS, 1),
        "loop_us_p90": round(times[int(len(times) * 0.9)] * 1e6, 1),
    }


def run_member(ours: bool, folder: str, number: int, pipe: Connection, loops: int) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(member(OurMember if ours else BareMember, Path(folder), number, pipe, loops))


def ring(ours: bool, loops: int) -> dict[str, Any]:
    """Times of one ring in this run."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="ring-") as folder:
        pipes, processes = [], []
        for number in range(MEMBERS):
            here, there = context.Pipe()
            process = context.Process(
                target=run_member, args=(ours, folder, number, there, loops), daemon=True
            )
            process.start()
            pipes.append(here)
            processes.append(process)
        addresses = [pipe.recv() for pipe in pipes]
        for number, pipe in enumerate(pipes):
            pipe.send(addresses[(number + 1) % MEMBERS])
        result: dict[str, Any] = pipes[0].recv()
        for pipe in pipes:
            pipe.send("end")
        for process in processes:
            process.join(10)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--loops", type=int, default=500)
    parser.add_argument("--ours", action="store_true", help="over core.swarm instead of bare hivemind")
    arguments = parser.parse_args()
    print(
        json.dumps(
            {
                "ring": "core.swarm" if arguments.ours else "hivemind, bare",
                "members": MEMBERS,
                "loops": arguments.loops,
                "cpus": os.cpu_count(),
                "machine": platform.processor() or platform.machine(),
                "bytes": ring(arguments.ours, arguments.loops),
            }
        )
    )


if __name__ == "__main__":
    main()
