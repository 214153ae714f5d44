"""One cap, one direction: bytes at the interface, and an answer's rate with and without prompts."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.internet.network import Host, Internet
from core.paths import code

Direction = Literal["upload", "download"]
LINK_MBIT = 200
ALONE_SECONDS = 10.0
"""At most, without prompts, before and after them."""


@dataclass(frozen=True)
class Held:
    """``carried`` is Mbit/s at the interface, headers included; rates are steps a second."""

    direction: Direction
    cap: float
    seconds: float
    carried: float
    alone: float
    under_load: float

    @property
    def over(self) -> float:
        return self.carried / self.cap - 1

    @property
    def slower(self) -> float:
        return 1 - self.under_load / self.alone


class End:
    """One process on one host, spoken to in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), 60)).decode().strip()

    async def say(self, word: str) -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        return [float(number) for number in json.loads(await self.line())]

    async def end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 20)


async def measure(folder: Path, direction: Direction, cap: float, seconds: float) -> Held:
    """Needs root."""
    hosts = [Host(name, LINK_MBIT, LINK_MBIT, 5) for name in ("sends", "takes")]
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Internet(hosts))

        async def start(name: str, its_cap: float, *rest: str) -> End:
            pipe = asyncio.subprocess.PIPE
            words = (name, str(folder), net.address(name), str(its_cap), *rest)
            command = (sys.executable, "-m", "benchmarks.caps.ends", *words)
            end = End(await net.start(name, *command, stdin=pipe, stdout=pipe, cwd=code()))
            stack.push_async_callback(end.end)
            return end

        takes = await start("takes", cap if direction == "download" else 0)
        peer_id, addresses = json.loads(await takes.line())
        sends = await start("sends", cap if direction == "upload" else 0, peer_id, json.dumps(addresses))
        await sends.line()
        # Before and after, so that a machine which grows busier or quieter meanwhile favours neither.
        around = min(seconds / 2, ALONE_SECONDS)
        await sends.say("alone")
        await asyncio.sleep(around)
        before_steps, before_took = await sends.say("load")
        await asyncio.sleep(1)  # what the links had in store is gone
        before = await net.counters()
        await sends.say("load")
        await asyncio.sleep(seconds)
        after = await net.counters()
        steps, took = await sends.say("alone")
        await asyncio.sleep(1)  # what the links had in store is gone
        await sends.say("alone")
        await asyncio.sleep(around)
        after_steps, after_took = await sends.say("alone")
    alone = (before_steps + after_steps) / (before_took + after_took)
    if direction == "upload":
        carried = after["sends"].sent_bytes - before["sends"].sent_bytes
    else:
        carried = after["takes"].received_bytes - before["takes"].received_bytes
    return Held(direction, cap, took, carried * 8 / 1e6 / took, alone, steps / took)
