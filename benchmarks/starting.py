"""From nothing to online with layers that are on the disk: ``python -m benchmarks.starting [--minutes M]``.

A quantized span of a model in the shape of BLOOM-560m is served twice over: by a worker of its own, from
its start to its record being stored, which is what an idle PC waits for; and by ``idlebloom node``, from
the command to its status saying that it gives. The first start quantizes; those after it only read. Before
each, in the same round, the files are read from end to end by themselves. DESIGN's bar: at most 1.5 times
that, and 8 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.checkpoints import random_weights
from core import json_file
from core.door import find
from core.errors import NodeError
from core.model.config import read_config
from core.paths import Paths, bundled_model, code
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import start_peer

TIMES, SECONDS = 1.5, 8.0
KINDS = ("int8", "nf4")
LONGEST = 400.0
"""A start that takes longer has failed."""
HEAD = """# Starting

From the start of a worker to its record being stored, and from `idlebloom node` to its status saying that it
gives, with every block and the head of a model in the shape of BLOOM-560m quantized on the disk, beside the
time to read those files from end to end; seconds, median and worst. The bar is {times} × reading +
{seconds:g} s. Before each reading and each start the files were dropped from the system's cache; the
program's own files were not.

| what | kind | MB | reading | quantizing, once | cached, median | cached, worst | bar | verdict |
|---|---|---|---|---|---|---|---|---|
"""

Start = Callable[[str], Awaitable[float]]
"""Seconds from nothing to online with this quantization."""


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starting")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=10.0, help="no start is begun after so long")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--out", type=Path, default=code() / "benchmarks" / "results")
    given = parser.parse_args()
    ends = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="ib-starting-") as name:
        folder = Path(name)
        model = await random_weights("560m", folder)
        for part in ("tokenizer.json", "tokenizer_config.json"):  # a node reads one, whatever it serves
            with suppress(FileNotFoundError):
                shutil.copy(bundled_model() / part, model)
        peer = await start_peer(identity=folder / "node.key", runtime=folder)
        ways = {"worker": _worker(folder, model, peer.addresses), "node": _node(folder, model)}
        rows = []
        for number, kind in enumerate(given.kinds):
            # What is left is shared by the kinds that are left.
            until = time.monotonic() + (ends - time.monotonic()) / (len(given.kinds) - number)
            rows += await measured(kind, ways, folder, given.starts, until)
        await peer.close()
    write(rows, given.out)


async def measured(
    kind: str, ways: dict[str, Start], folder: Path, starts: int, until: float
) -> list[dict[str, object]]:
    """The ways take turns; each starts once before, and once at least."""
    first = {name: await start(kind) for name, start in ways.items()}
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(starts):
        if number and time.monotonic() > until:
            break
        for name, start in ways.items():
            forget(folder / name / kind)
            read = reading(folder / name / kind)
            forget(folder / name / kind)
            pairs[name].append((read, await start(kind)))
    rows = [row(name, kind, folder / name / kind, first[name], pairs[name]) for name in ways]
    for one in rows:
        print(one, flush=True)
    return rows


def _worker(folder: Path, model: Path, peers: tuple[str, ...]) -> Start:
    async def start(kind: str) -> float:
        config = WorkerConfig(
            str(model),
            (1, read_config(model).layers),
            str(folder / "worker.key"),
            str(folder),
            peers=peers,
            quantization=kind,  # type: ignore[arg-type]
            store=str(folder / "worker" / kind),
        )
        began = time.perf_counter()
        worker = await Worker.start(log=folder / "worker.log")
        worker.configure(config)
        await asyncio.wait_for(worker.online(), LONGEST)
        seconds = time.perf_counter() - began
        await worker.stop()
        return seconds

    return start


def _node(folder: Path, model: Path) -> Start:
    async def start(kind: str) -> float:
        data = folder / "node" / kind
        data.mkdir(parents=True, exist_ok=True)
        json_file.write(
            data / "settings.json", {"model": str(model), "quantization": kind, "donate": "always"}
        )
        command = (sys.executable, "-m", "idlebloom", "node", "--port", "0", "--data", str(data))
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command, cwd=code(), stdout=asyncio.subprocess.DEVNULL, stdin=asyncio.subprocess.DEVNULL
        )
        try:
            while not await asyncio.to_thread(_gives, data):
                if process.returncode is not None or time.perf_counter() - began > LONGEST:
                    raise RuntimeError(f"the node does not give: exit code {process.returncode}")
                await asyncio.sleep(0.05)
            return time.perf_counter() - began
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    return start


def _gives(data: Path) -> bool:
    running = find(Paths.of(data).door_file)
    if running is None:
        return False
    try:
        status = running.request("/api/status?once=1")
    except NodeError:
        return False
    if status["state"] == "trouble":
        raise RuntimeError(str(status["reason"]))
    return bool(status["state"] == "giving")


def forget(folder: Path) -> None:
    """Has the system read the files from the disk next time."""
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what was not written yet cannot be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def reading(folder: Path) -> float:
    began = time.perf_counter()
    for path in folder.rglob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass
    return time.perf_counter() - began


def row(
    what: str, kind: str, folder: Path, first: float, pairs: list[tuple[float, float]]
) -> dict[str, object]:
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    read = statistics.median(one for one, _ in pairs)
    worst = max(online for _, online in pairs)
    bar = TIMES * read + SECONDS
    return {
        "what": what,
        "kind": kind,
        "megabytes": round(size / 1e6),
        "reading": round(read, 2),
        "first": round(first, 1),
        "median": round(statistics.median(online for _, online in pairs), 1),
        "worst": round(worst, 1),
        "bar": round(bar, 1),
        "met": worst <= bar,
        "starts": len(pairs),
        "load": round(os.getloadavg()[0], 1),
    }


def write(rows: list[dict[str, object]], folder: Path) -> None:
    shown = ("what", "kind", "megabytes", "reading", "first", "median", "worst", "bar")
    lines = []
    for one in rows:
        verdict = "met" if one["met"] else "NOT met"
        cells = [*(str(one[name]) for name in shown), verdict]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [
        f"{one['what']}, {one['kind']}: {one['starts']} starts, load of the system {one['load']}."
        for one in rows
    ]
    page = HEAD.format(times=TIMES, seconds=SECONDS) + "\n".join([*lines, "", *notes]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "starting.md").write_text(page, "utf-8")
    (folder / "starting.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    asyncio.run(main())
