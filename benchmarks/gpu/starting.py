"""Kept layers from the disk to the device, and a worker from its start to online."""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu.blocks import DEVICE, HIDDEN, times
from benchmarks.gpu.files import SIZES
from benchmarks.gpu.scale import BLOOM, SCALE
from benchmarks.measure import Bar, Interval, Row
from core.model.config import read_config
from core.model.quantize import Quantization
from core.model.reading import PIECE_BYTES
from core.model.store import Store
from core.model.stored import files_of
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import start_peer
from core.terms import Span

READERS = 8
ROUNDS = 5
STARTS = 3 if SCALE is BLOOM else 1
"""Of a worker, each way."""
TIMES, SECONDS = 1.5, 8.0
"""DESIGN's bar: online within so many times reading the files, and so many seconds."""
LONGEST = 240.0
_PHASE = re.compile(r"([\d.]+) s after the start: (.*)")


def loading_rows(_files: Path) -> Iterator[Row]:
    """A file as large as a block in NF4, on the disk alone and in the system's cache."""
    with tempfile.TemporaryDirectory(prefix="gpu-loading-") as made:
        store = Store(Path(made))
        parts = [torch.randint(0, 256, (HIDDEN, HIDDEN), dtype=torch.uint8) for _ in range(6)]
        store.write("h.0", {f"{number}.nf4": part for number, part in enumerate(parts)})
        path = store.path("h.0")
        size = path.stat().st_size

        def load() -> None:
            if store.read("h.0", DEVICE) is None:
                raise RuntimeError("the file was damaged")

        bus = Interval.of(size / seconds for seconds in times(_to_device(size), ROUNDS, 1)).median
        for name, before in (("disk", forget), ("cache", _nothing)):
            one, many, ours = ([], [], [])  # type: tuple[list[float], list[float], list[float]]
            for _ in range(ROUNDS):
                for call, found in ((_plain, one), (_by_several, many), (lambda _path: load(), ours)):
                    before(path)
                    started = time.perf_counter()
                    call(path)
                    found.append(size / (time.perf_counter() - started))
            best = min(bus, max(Interval.of(one).median, Interval.of(many).median))
            yield Row(
                f"loading-{name}",
                f"a kept layer from the {name} to the device, hashed: of what reading alone and the bus give",
                "",
                Interval.of(rate / best for rate in ours),
                READERS,
                "nf4",
                bar=Bar(0.8) if name == "disk" else None,
                beside={
                    "GB/s": Interval.of(ours).median / 1e9,
                    "reading, one thread, GB/s": Interval.of(one).median / 1e9,
                    f"reading, {READERS} threads, GB/s": Interval.of(many).median / 1e9,
                    "page-locked memory to the device, GB/s": bus / 1e9,
                },
            )


def _to_device(size: int) -> Callable[[], object]:
    host = torch.empty(size, dtype=torch.uint8, pin_memory=DEVICE.type == "cuda")
    there = torch.empty(size, dtype=torch.uint8, device=DEVICE)
    return lambda: there.copy_(host, non_blocking=True)


def forget(path: Path) -> None:
    """The system's cache holds nothing of the file any more."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _nothing(_path: Path) -> None:
    pass


def _plain(path: Path) -> None:
    part = bytearray(PIECE_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(part):
            pass


def _by_several(path: Path) -> None:
    """Each thread takes every READERS-th piece."""
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(READERS) as threads:
        size = path.stat().st_size

        def take(first: int) -> None:
            part = bytearray(PIECE_BYTES)
            for at in range(first * PIECE_BYTES, size, READERS * PIECE_BYTES):
                os.preadv(file.fileno(), [part], at)

        list(threads.map(take, range(READERS)))


# A worker


async def online_rows(files: Path) -> AsyncGenerator[Row]:
    """From starting a worker to online: once with nothing known of the device, then with what was kept, the
    span's files in the system's cache or on the disk alone."""
    folder, span = files / "one", Span(1, SIZES["one"] + 1)
    paths = files_of(files / "store", folder, read_config(folder), Quantization.NF4, span)
    size = sum(path.stat().st_size for path in paths)
    with tempfile.TemporaryDirectory(prefix="gpu-online-") as made:
        runtime = Path(made)
        peer = await start_peer(identity=runtime / "node.key", runtime=runtime)
        config = WorkerConfig(
            str(folder),
            (span.start, span.end),
            str(runtime / "worker.key"),
            made,
            peers=peer.addresses,
            dtype="bfloat16",
            device=SCALE.device,
            quantization="nf4",
            store=str(files / "store"),
            cache=str(runtime / "device"),
            cache_tokens=SCALE.cache_tokens // 8,
            threads=4,
        )
        try:
            for name, cold in (("first", False), ("cached", False), ("disk", True)):
                found, taken, read, phases = ([], [], [], [])  # type: tuple[list[float], list[float], list[float], list[dict[str, float]]]
                for number in range(STARTS):
                    reading = _reading(paths, cold=cold)
                    kept = runtime / (f"device-{number}" if name == "first" else "device-0")
                    config = replace(config, cache=str(kept))
                    seconds, reached = await _start(config, runtime / f"{name}-{number}.log")
                    found.append(seconds / (TIMES * reading + SECONDS))
                    taken.append(seconds)
                    read.append(reading)
                    phases.append(reached)
                yield Row(
                    f"online-{name}",
                    f"from starting a worker to online, {len(span)} blocks kept ({name}): of the bar, "
                    f"{TIMES} × reading + {SECONDS:g} s",
                    "",
                    Interval.of(found),
                    4,
                    "nf4",
                    bar=Bar(1.0, at_least=False),
                    beside={
                        "s": statistics.median(taken),
                        "longest, s": max(taken),
                        "reading, s": statistics.median(read),
                        "files, GB": size / 1e9,
                        **{
                            phase: statistics.median(one[phase] for one in phases if phase in one)
                            for phase in phases[0]
                        },
                    },
                )
        finally:
            await peer.close()


def _reading(paths: Sequence[Path], *, cold: bool) -> float:
    """Seconds for all files; where ``cold``, none of them is in the system's cache, nor afterwards."""
    for path in paths if cold else ():
        forget(path)
    started = time.perf_counter()
    for path in paths:
        _plain(path)
    seconds = time.perf_counter() - started
    for path in paths if cold else ():
        forget(path)
    return seconds


async def _start(config: WorkerConfig, log: Path) -> tuple[float, dict[str, float]]:
    """Seconds until it serves, and when it reached what."""
    os.environ["IDLEBLOOM_LOG"] = "debug"
    started = time.perf_counter()
    worker = await Worker.start(log=log, threads=config.threads)
    try:
        worker.configure(config)
        await worker.online()
        seconds = time.perf_counter() - started
    finally:
        del os.environ["IDLEBLOOM_LOG"]
        await worker.stop()
    return seconds, _phases(log)


def _phases(log: Path) -> dict[str, float]:
    found = _PHASE.findall(log.read_text("utf-8", errors="replace"))
    return {f"{name}, s": float(at) for at, name in found}
