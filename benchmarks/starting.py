"""From idle to online with layers that are on the disk: ``python -m benchmarks.starting [--starts N]``.

A worker is started, told a quantized span of a model in the shape of BLOOM-560m, and awaited until its
record is stored. The first start quantizes; those after it only read. Beside each, in the same round, the
span's files are read from end to end by themselves. DESIGN's bar: at most 1.5 times that, and 8 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.checkpoints import random_weights
from core.model.config import read_config
from core.paths import code
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import start_peer

TIMES, SECONDS = 1.5, 8.0
KINDS = ("int8", "nf4")
HEAD = """# Starting

From starting a worker to its record being stored, with every block and the head of a model in the shape of
BLOOM-560m quantized on the disk, beside the time to read those files; seconds, median and worst. The bar is
{times} × reading + {seconds:g} s. The files were in the system's cache: reading them takes little,
and what is measured is the rest: imports, p2pd, checking hashes, unpacking, the first steps.

| kind | MB | reading | first start, quantizing | cached, median | cached, worst | bar | verdict |
|---|---|---|---|---|---|---|---|
"""


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starting")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--out", type=Path, default=code() / "benchmarks" / "results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ib-starting-") as name:
        folder = Path(name)
        model = await random_weights("560m", folder)
        peer = await start_peer(identity=folder / "node.key", runtime=folder)
        rows = []
        for kind in given.kinds:
            first = await start(folder, model, kind, peer.addresses)
            pairs = [
                (reading(folder / kind), await start(folder, model, kind, peer.addresses))
                for _ in range(given.starts)
            ]
            rows.append(row(kind, folder / kind, first, pairs))
            print(rows[-1], flush=True)
        await peer.close()
    write(rows, given.out)


async def start(folder: Path, model: Path, kind: str, peers: tuple[str, ...]) -> float:
    """Seconds until it serves."""
    config = WorkerConfig(
        str(model),
        (1, read_config(model).layers),
        str(folder / "worker.key"),
        str(folder),
        peers=peers,
        quantization=kind,  # type: ignore[arg-type]
        store=str(folder / kind),
    )
    began = time.perf_counter()
    worker = await Worker.start(log=folder / "worker.log")
    worker.configure(config)
    await worker.online()
    seconds = time.perf_counter() - began
    await worker.stop()
    return seconds


def reading(folder: Path) -> float:
    began = time.perf_counter()
    for path in folder.rglob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass
    return time.perf_counter() - began


def row(kind: str, folder: Path, first: float, pairs: list[tuple[float, float]]) -> dict[str, object]:
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    read = statistics.median(one for one, _ in pairs)
    worst = max(online for _, online in pairs)
    bar = TIMES * read + SECONDS
    return {
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
    shown = ("kind", "megabytes", "reading", "first", "median", "worst", "bar")
    lines = []
    for one in rows:
        verdict = "met" if one["met"] else "not met"
        cells = [*(str(one[name]) for name in shown), verdict]
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"\n{one['kind']}: {one['starts']} starts, load of the system {one['load']}." for one in rows]
    page = HEAD.format(times=TIMES, seconds=SECONDS) + "\n".join([*lines, *notes]) + "\n"
    (folder / "starting.md").write_text(page, "utf-8")
    (folder / "starting.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    asyncio.run(main())
