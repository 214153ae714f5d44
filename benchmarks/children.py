"""Contenders in a process of their own: long-lived, one answer a request, timed in that process.

The parent's side is ``Child``; a child's module calls ``serve`` with what answers. A request and an
answer are a line of JSON each; the child ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Timing
from core.paths import code

Answer = Callable[[Sequence[int], int], Timing]


class Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def answer(self, ids: Sequence[int], count: int) -> Timing:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"ids": list(ids), "count": count}).encode() + b"\n")
        told = await self.hear()
        timing = Timing(told["asked"], tuple(told["times"]), tuple(told["ids"]))
        if len(timing.ids) != count:
            raise RuntimeError(f"{len(timing.ids)} tokens came where {count} were asked for")
        return timing

    async def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line.startswith(b"{"):  # libraries print too
                return json.loads(line)  # type: ignore[no-any-return]
        raise RuntimeError("a process that was to answer has ended")


@asynccontextmanager
async def child(module: str, folder: Path, *, dtype: str, threads: int) -> AsyncIterator[Child]:
    """``python -m module FOLDER DTYPE THREADS``, ready when entered."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        str(folder),
        dtype,
        str(threads),
        cwd=code(),
        env=dict(os.environ, OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    running = Child(process)
    try:
        await running.hear()
        yield running
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()


def serve(load: Callable[[Path, str], Answer]) -> None:
    """A child's life."""
    import torch

    folder, dtype, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    answer = load(Path(folder), dtype)
    print("{}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        timing = answer(request["ids"], request["count"])
        print(json.dumps({"asked": timing.asked, "times": timing.times, "ids": timing.ids}), flush=True)
