"""What one PC does alone with a model that does not fit: accelerate's offloading to disk, beside a swarm.

    python -m benchmarks.offloading [--quick] [--pairs N] [--out DIR]

The same 560m-shaped weights by accelerate in one process that may hold a third of them, by transformers in
one process that holds them all (what offloading to memory comes to on a PC without a GPU), and by three
donors at 100 Mbit/s and 100 ms, each of which holds a third. Needs root. accelerate is installed for this
alone, into the user's cache folder.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

import appdirs

from benchmarks.checkpoints import random_weights
from benchmarks.children import child
from benchmarks.measure import Contender, Interval, Results, Row, Run, rounds, same_ids
from benchmarks.wide_area.stand import DONORS, FAR, Bench, Scale, stand, thirds
from core.model.config import read_config
from core.paths import code
from core.swarm.loop import new_event_loop

NOTES = """\
The same weights (560m's shape, vocabulary 32,768, bfloat16, random) and prompts, contenders in turns, one
thread a process. accelerate may keep a third of the weights in memory and has the rest on this machine's
disk; a control group's limit keeps the system's file cache from holding it. The ring's donors are at
100 Mbit/s and 100 ms round trip from each other (see wide_area.md) and hold a third each. Tokens a second
after the first."""

VERSION = "1.11.0"
ROOM = 1_000_000_000
"""What Python, torch and transformers need beside the weights."""


def accelerate() -> Path:
    """The folder that holds accelerate alone, unless it is here already; its own needs are the project's."""
    if found := importlib.util.find_spec("accelerate"):
        return Path(str(found.origin)).parent.parent
    folder = Path(appdirs.user_cache_dir("idlebloom-benchmarks"), f"accelerate-{VERSION}")
    if not folder.exists():
        install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder)]
        subprocess.run([*install, f"accelerate=={VERSION}"], check=True, stdout=subprocess.DEVNULL)
    return folder


@contextmanager
def limited(bytes_: int) -> Iterator[str]:
    """A control group with that memory limit, or "" where none can be made."""
    for place, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", place, f"idlebloom-offloading-{os.getpid()}")
        if not (group.parent / "cgroup.procs").exists():
            continue
        try:
            if not place:
                (group.parent / "cgroup.subtree_control").write_text("+memory", "ascii")
            group.mkdir()
            Path(group, limit).write_text(str(bytes_), "ascii")
        except OSError:
            continue
        try:
            yield str(group)
        finally:
            with suppress(OSError):
                group.rmdir()
        return
    yield ""


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Children started inside get these variables."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def measure(pairs: int, tokens: int, results: Results, run: Run) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        bench = Bench(Scale(pairs, pairs, tokens, ()), Path(made), Random(0))
        folder = await random_weights("560m", bench.folder)
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        async with AsyncExitStack() as stack:
            group = stack.enter_context(limited(weights // 3 + ROOM))
            offloading = {
                "PYTHONPATH": str(accelerate()),
                "OFFLOAD_BYTES": str(weights // 3),
                "OFFLOAD_GROUP": group,
            }
            with environment(offloading):
                alone = await stack.enter_async_context(
                    child("benchmarks.offloaded", folder, dtype="bfloat16", threads=1)
                )
            whole = await stack.enter_async_context(
                child("benchmarks.reference", folder, dtype="bfloat16", threads=1)
            )
            places = thirds(read_config(folder).layers)
            here = await stack.enter_async_context(stand(bench, FAR, "560m", "bfloat16", places))
            contenders: dict[str, Contender] = {"disk": alone, "memory": whole, "ring": here.swarm}
            timings = await rounds(contenders, bench.prompts(pairs, 64, here.vocab), tokens)
    rows = []
    for name, what in (("disk", "offloading to disk"), ("memory", "transformers with all in memory")):
        both = list(zip(timings["ring"], timings[name], strict=True))
        rows.append(
            Row(
                name,
                f"560m: {DONORS} donors at {FAR} against {what}",
                "×",
                Interval.of(ours.rate / theirs.rate for ours, theirs in both),
                1,
                "bfloat16",
                None,
                {
                    "ring, tokens/s": statistics.median(ours.rate for ours, _ in both),
                    f"{what}, tokens/s": statistics.median(theirs.rate for _, theirs in both),
                    "same tokens": same_ids(timings["ring"], timings[name]),
                },
                "" if group or name != "disk" else "no control group could be made: the file cache helped",
            )
        )
    results.put(rows, run)


def main(argv: Sequence[str] | None = None) -> None:
    words = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offloading", description=words)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--pairs", type=int, default=15, help="rounds")
    parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results)")
    arguments = parser.parse_args(argv)
    folder = arguments.out or (None if arguments.quick else code() / "benchmarks" / "results")
    results = Results("Offloading", NOTES, folder, "offloading")
    pairs = 2 if arguments.quick else arguments.pairs
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(measure(pairs, 8, results, Run.here(quick=arguments.quick)))
    print(results.markdown())


if __name__ == "__main__":
    main()
