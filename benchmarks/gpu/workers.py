"""Rows of real donors on one GPU: a ring of three, going, coming back, and a cap on memory under load."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import psutil

from benchmarks.gpu.blocks import BLOCKS, BYTES, VOCAB
from benchmarks.gpu.files import SIZES
from benchmarks.gpu.scale import SCALE
from benchmarks.measure import Bar, Interval, Row, common_rate, readers
from benchmarks.swarm_of_workers import Swarm, split, workers
from core.model.quantize import Quantization
from core.serving.supervisor import Worker
from core.terms import Span

PETALS = {"1 Gbit/s": 1.71, "100 Mbit/s": 1.66, "100 Mbit/s, 100 ms": 1.23}
"""Petals' steps/s at a length of 128, three servers with an A100 each (Borzunov et al. 2023)."""
TOKENS = SCALE.tokens
KILLS, AT_ONCE = SCALE.kills, SCALE.at_once
CAP = SCALE.cap
GROWING = SCALE.growing


def given(folder: Path, kind: Quantization) -> dict[str, Any]:
    """What workers are told of the checkpoints in ``folder``."""
    return {
        "device": SCALE.device,
        "quantization": str(kind),
        "store": str(folder / "store"),
        "cache": str(folder / "device"),
    }


@asynccontextmanager
async def donors(
    folder: Path, name: str, kind: Quantization, spans: tuple[Span, ...], **more: Any
) -> AsyncIterator[Swarm]:
    tokens = more.pop("cache_tokens", 4096)
    async with workers(
        folder / name,
        spans,
        dtype="bfloat16",
        threads=4,
        cache_tokens=tokens,
        more=given(folder, kind) | more,
    ) as swarm:
        yield swarm


def row(name: str, what: str, unit: str, values: list[float], kind: str, **more: Any) -> Row:
    return Row(name, what, unit, Interval.of(values), 4, kind, **more)


def prompts(count: int, length: int) -> list[list[int]]:
    chance = Random(1)
    return [[chance.randrange(3, VOCAB) for _ in range(length)] for _ in range(count)]


async def ring_rows(folder: Path) -> AsyncGenerator[Row]:
    """Three donors, the words' ends included."""
    blocks = SIZES["ring"]
    for kind in (Quantization.INT8, Quantization.NF4):
        started = time.perf_counter()
        async with donors(folder, "ring", kind, split(blocks + 2, 3)) as swarm:
            online = time.perf_counter() - started
            await swarm.answer(prompts(1, SCALE.prompt)[0], 8)
            timings = [await swarm.answer(ids, TOKENS) for ids in prompts(7, SCALE.prompt)]
            records = await swarm.look()
            middle = records[1]
            block = middle.step_seconds / len(middle.span)
            steps = [one.step for one in timings]
            step = Interval.of(steps).median
            whole = step + (BLOCKS - blocks) * block
            yield row(
                f"ring-{kind}",
                f"three donors on one GPU, loopback, {blocks} blocks with both ends, one reader: steps/s",
                "",
                [1 / one for one in steps],
                str(kind),
                beside={
                    "a block in a donor, ms": 1e3 * block,
                    f"extrapolated to {BLOCKS} blocks": 1 / whole,
                    "and with 3 one-way delays of 50 ms, computed": 1 / (whole + 0.15),
                    "first token of 128, s": Interval.of(one.first for one in timings).median,
                    **{f"Petals, {link}": rate for link, rate in PETALS.items()},
                    "all three online after, s": online,
                },
                bound="links between the donors are not shaped: see the rows of shaped links",
            )
            rates = []
            for _ in range(3):
                eight = await readers(swarm, prompts(8, SCALE.prompt), TOKENS)
                rates.append(common_rate(eight))
            yield row(
                f"ring-{kind}-8",
                "the same, eight readers at once: tokens/s against one",
                "×",
                [rate * step for rate in rates],
                str(kind),
                beside={"tokens/s": Interval.of(rates).median},
            )


# Memory


class Resident:
    """What the system says of processes' memory: for a run on the CPU."""

    def used(self, pid: int) -> int:
        try:
            process = psutil.Process(pid)
            return 0 if process.status() == psutil.STATUS_ZOMBIE else int(process.memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def taken(self) -> int:
        return 0


class Nvml:
    """What the driver says of the GPU's memory."""

    def __init__(self) -> None:
        import pynvml

        pynvml.nvmlInit()
        self._nvml, self._handle = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)

    def used(self, pid: int) -> int:
        """Bytes of that process; 0 once it is gone."""
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle):
            if process.pid == pid:
                return int(process.usedGpuMemory or 0)
        return 0

    def taken(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)


def memory() -> Nvml | Resident:
    return Resident() if SCALE.device == "cpu" else Nvml()


class Refusals(logging.Handler):
    """Counts what donors refused, from what the client logs."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "could not be opened" in record.getMessage()


async def cap_rows(folder: Path) -> AsyncGenerator[Row]:
    """32 sessions that grow until the cache is full, and a flood of sessions."""
    nvml = memory()
    positions = GROWING * (SCALE.grown + SCALE.prompt // 2)
    before = nvml.taken()
    async with donors(
        folder,
        "one",
        Quantization.NF4,
        (Span(0, SIZES["one"] + 2),),
        cache_tokens=SCALE.cache_tokens,
        memory_cap=CAP,
        log_bytes=1 << 28,  # on the CPU they are part of what the cap covers
    ) as swarm:
        pid = swarm.donors[0].process.pid
        peaks: list[int] = []

        async def watch() -> None:
            while True:
                peaks.append(max(nvml.used(pid), nvml.taken() - before))
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        grown = await asyncio.gather(
            *(
                asyncio.wait_for(swarm.answer(ids, SCALE.grown), 60)
                for ids in prompts(GROWING, SCALE.prompt // 2)
            ),
            return_exceptions=True,
        )
        ended = sum(not isinstance(one, BaseException) for one in grown)
        yield row(
            "cap",
            f"{GROWING} sessions growing to {positions} positions, {SCALE.cache_tokens} fit: "
            "peak, of the cap",
            "",
            [peak / CAP for peak in (max(peaks),)],
            "nf4",
            bar=Bar(1.0, at_least=False),
            beside={"peak, GB": max(peaks) / 1e9, "answers finished": ended, "given up": GROWING - ended},
            bound="; ".join(sorted({str(one)[:80] for one in grown if isinstance(one, BaseException)})[:3]),
        )
        refusals = Refusals()
        logging.getLogger("core.routing").addHandler(refusals)
        flood = await asyncio.gather(
            *(asyncio.wait_for(swarm.answer(ids, 40), 60) for ids in prompts(SCALE.flood, 2 * SCALE.prompt)),
            return_exceptions=True,
        )
        served = sum(not isinstance(one, BaseException) for one in flood)
        watching.cancel()
        after = await swarm.answer(prompts(1, 16)[0], 8)
        yield row(
            "flood",
            f"{SCALE.flood} sessions at once where 64 fit: the donor still serves",
            "",
            [float(len(after.ids) == 8)],
            "nf4",
            bar=Bar(1.0),
            beside={
                "answered in the end": served,
                "refusals on the way": refusals.count,
                "peak, of the cap": max(peaks) / CAP,
            },
            bound="; ".join(sorted({str(one)[:80] for one in flood if isinstance(one, BaseException)})[:3]),
        )


async def release_rows(folder: Path) -> AsyncGenerator[Row]:
    """From telling a worker to go until the driver counts nothing of it; and from starting it to online."""
    nvml, seconds, starts = memory(), [], []
    span = Span(1, SIZES["one"] + 1)
    for number in range(KILLS // AT_ONCE):
        started = time.perf_counter()
        async with donors(folder, "one", Quantization.NF4, (span,) * AT_ONCE) as swarm:
            starts.append(time.perf_counter() - started)
            seconds += [await _going(worker, nvml) for worker in swarm.donors]
        print(f"release {number}: {max(seconds):.3f} s at worst", flush=True)
    held = len(span) * BYTES[Quantization.NF4]
    yield row(
        "release",
        f"from the order to go until the driver counts no byte of the worker, worst of {len(seconds)}",
        "s",
        [max(seconds)],
        "nf4",
        bar=Bar(1.0, at_least=False),
        beside={
            "median": Interval.of(seconds).median,
            "weights of each, GB": held / 1e9,
            f"{AT_ONCE} at once, all online after, s": Interval.of(starts).median,
        },
    )


async def _going(worker: Worker, nvml: Nvml | Resident) -> float:
    pid = worker.process.pid
    if not nvml.used(pid):
        raise RuntimeError("the driver does not count this worker")
    asked = time.perf_counter()
    stopping = asyncio.create_task(worker.stop())
    while nvml.used(pid):  # noqa: ASYNC110 - the driver tells nobody
        await asyncio.sleep(0.002)
    gone = time.perf_counter() - asked
    await stopping
    return gone
