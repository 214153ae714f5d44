"""What the page's server holds: streaming answers beside idle tabs and clients that dawdle.

    python -m benchmarks.webchat [--quick] [--out DIR]

Three worker processes on loopback and ``idlebloom node``, with BLOOM's vocabulary as in
``benchmarks.client_memory``. 32 programs stream answers through ``/v1``, one after the other each, first
alone, then beside 200 idle tabs of the page and 50 connections that send a byte a second of a request that
never ends; turn by turn.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from benchmarks.client_memory import LIMIT_MB, node, resident
from benchmarks.measure import Bar, Interval, Others, Results, Row, Run
from benchmarks.swarm_of_workers import split, workers
from core.door import RunningNode, find_running
from core.model.config import read_config
from core.paths import code
from core.swarm.loop import new_event_loop

NOTES = """\
`idlebloom node` over three worker processes on loopback, a made-up checkpoint with BLOOM's vocabulary, the
clients in the benchmark's own process, all on the same cores. A round counts the pieces of text that all
streaming answers bring within its seconds, first without and then with the rest; the ratio is taken within a
round, and its second half begins once all tabs have opened. Memory is resident, of the node and of its p2pd,
at its highest during the rounds with the rest. A dawdling client is hung up on after 15 s and comes back at
once."""

STREAMS, TABS, DAWDLERS = 32, 200, 50
TOKENS = 200
OPEN_SECONDS = 60.0


@dataclass
class Counter:
    pieces: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where the node listens, and how to be its owner."""

    running: RunningNode
    model: str

    @property
    def port(self) -> int:
        return int(self.running.url.rpartition(":")[2])

    def head(self, method: str, path: str, *more: str) -> bytes:
        lines = (f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *more)
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


async def stream(place: Place, counter: Counter, number: int) -> None:
    """Answers one after the other, for as long as it is let."""
    turn = 0
    while True:
        turn += 1
        body = json.dumps(
            {
                "model": place.model,
                "prompt": f"Reader {number} asks for the {turn}th time about flowers that open at night.",
                "max_tokens": TOKENS,
                "temperature": 0,
                "stream": True,
            }
        ).encode()
        kind = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        reader, writer = await place.dial()
        try:
            writer.write(place.head("POST", "/v1/completions", *kind) + body)
            first = await reader.readline()
            if b" 200 " not in first:
                counter.failures.append(first.decode(errors="replace").strip())
                await asyncio.sleep(1)
                continue
            while line := await reader.readline():
                if line.startswith(b'data: {"error"'):
                    counter.failures.append(line.decode(errors="replace").strip()[:200])
                counter.pieces += line.startswith(b"data: {")
        finally:
            writer.close()


async def tab(place: Place, open_tabs: set[int], number: int) -> None:
    """A page that is open: it hears what the node tells, answers pings, and says nothing."""
    key = base64.b64encode(os.urandom(16)).decode()
    reader, writer = await place.dial()
    try:
        writer.write(
            place.head(
                "GET",
                "/api/chat",
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Sec-WebSocket-Key: {key}",
                "Sec-WebSocket-Version: 13",
                f"Authorization: Bearer {place.running.token}",
            )
        )
        if b" 101 " not in await reader.readuntil(b"\r\n\r\n"):
            raise RuntimeError("a tab was refused")
        writer.write(frame(1, json.dumps({"type": "show", "conversation": None}).encode()))
        while True:
            first, second = await reader.readexactly(2)
            length = second & 127
            if length == 126:
                (length,) = struct.unpack(">H", await reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await reader.readexactly(8))
            payload = await reader.readexactly(length)
            open_tabs.add(number)
            if first & 15 == 9:
                writer.write(frame(10, payload))
    finally:
        writer.close()


def frame(code_: int, payload: bytes) -> bytes:
    """As a client sends it, masked with zeros."""
    size = len(payload)
    head = bytes([128 | code_, 128 | size]) if size < 126 else struct.pack(">BBH", 128 | code_, 254, size)
    return head + bytes(4) + payload


async def dawdle(place: Place) -> None:
    while True:
        with suppress(OSError):
            _, writer = await place.dial()
            try:
                writer.write(
                    f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\nX-Slow: ".encode()
                )
                while True:
                    await asyncio.sleep(1)
                    writer.write(b"a")
                    await writer.drain()
            finally:
                writer.close()


@asynccontextmanager
async def going(
    works: Sequence[Callable[[], Awaitable[None]]],
) -> AsyncIterator[Sequence[asyncio.Future[None]]]:
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_open(tabs: set[int], tasks: Sequence[asyncio.Future[None]]) -> None:
    """Opening that many at once is work, and they are to be idle: their first moments do not count."""
    until = time.monotonic() + OPEN_SECONDS
    while len(tabs) < TABS and not any(task.done() for task in tasks):
        if time.monotonic() > until:
            raise RuntimeError(f"only {len(tabs)} of {TABS} tabs have opened in {OPEN_SECONDS:.0f} s")
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)


async def count(counter: Counter, seconds: float) -> float:
    """Pieces a second over the next seconds."""
    before, begun = counter.pieces, time.monotonic()
    await asyncio.sleep(seconds)
    return (counter.pieces - before) / (time.monotonic() - begun)


async def measure(rounds: int, seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        model, data = Path(made, "model"), Path(made, "data")
        making = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.client_memory", "--save", str(model), cwd=code()
        )
        if await making.wait():
            raise RuntimeError("no checkpoint could be made")
        config = read_config(model)
        async with AsyncExitStack() as stack:
            swarm = await stack.enter_async_context(
                workers(model, split(config.layers, 3), dtype="bfloat16", threads=1)
            )
            process = await stack.enter_async_context(node(model, data, list(swarm.peer.addresses)))
            place = Place(find_running(data / "run" / "door.json"), config.model_id)
            return await compare(place, process, rounds, seconds)


async def compare(place: Place, process: psutil.Process, rounds: int, seconds: float) -> list[Row]:
    counter, pairs, peak = Counter(), list[tuple[float, float]](), (0.0, 0.0)
    readers = [partial(stream, place, counter, number) for number in range(STREAMS)]
    others = Others()
    async with going(readers):
        await count(counter, seconds)  # all have begun
        for number in range(rounds):
            alone = await count(counter, seconds)
            tabs = set[int]()
            crowd = [partial(tab, place, tabs, one) for one in range(TABS)]
            async with going([*crowd, *[partial(dawdle, place)] * DAWDLERS]) as tasks:
                await all_open(tabs, tasks)
                beside = await count(counter, seconds)
                peak = max(peak, resident(process), key=sum)
                lost = [task for task in tasks if task.done()]
            if lost:
                raise RuntimeError(f"{len(lost)} tabs were lost: {lost[0].exception()}")
            pairs.append((alone, beside))
            held = sum(resident(process))
            line = f"round {number + 1}: {alone:.0f} and {beside:.0f} pieces/s, {held:.0f} MB"
            print(line, file=sys.stderr, flush=True)
            await asyncio.sleep(2)
    if counter.failures:
        raise RuntimeError(f"{len(counter.failures)} answers failed: {counter.failures[0]}")
    ratios = [beside / alone for alone, beside in pairs]
    middle = sorted(pairs)[len(pairs) // 2]
    return [
        Row(
            "rate",
            f"{STREAMS} answers beside {TABS} idle tabs and {DAWDLERS} dawdling clients, against alone",
            "×",
            Interval.of(ratios),
            1,
            "bfloat16",
            Bar(0.8),
            {
                "alone, pieces/s": middle[0],
                "beside them, pieces/s": middle[1],
                "cores taken by others": others.cores(),
            },
        ),
        Row(
            "memory",
            "the node and its p2pd meanwhile, at the highest",
            "MB",
            Interval.of([sum(peak)]),
            1,
            "bfloat16",
            Bar(LIMIT_MB, at_least=False),
            {"node, MB": peak[0], "p2pd, MB": peak[1]},
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.webchat", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="two short rounds; nothing is written")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each half of a round")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results)")
    arguments = parser.parse_args()
    rounds, seconds = (2, 5.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    folder = arguments.out or (None if arguments.quick else code() / "benchmarks" / "results")
    results = Results("The page under load", NOTES, folder, "webchat")
    run = Run.here(quick=arguments.quick)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        rows = runner.run(measure(rounds, seconds))
    results.put(rows, run)
    print(results.markdown())


if __name__ == "__main__":
    main()
