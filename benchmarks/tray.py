"""What Idlebloom takes from a PC while it waits: memory of tray and node, and CPU time, side by side.

    python -m benchmarks.tray [--seconds S] [--out FOLDER]

Starts the real tray and its node on a virtual X display with a tray host, services and a GPU that are read as
on any desktop (the tests' stand-ins), and data of their own. Nobody is idle for long enough, so nothing is
given. Memory is counted twice: the proportional share (PSS), what the processes would take from a PC that
runs neither, and what is resident, pages that others share included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.measure import Bar, Interval, Results, Row, Run
from core import door
from core.paths import Paths, code
from core.preferences import Preferences
from desktop.memory import Memory
from tests.fake_bus import fake_bus
from tests.fake_gpu import FakeGpu, build
from tests.screen import virtual_screen

ENOUGH = 600.0
"""Seconds below which the shares of a core are no verdict."""
SETTLE_SECONDS = 20.0
START_SECONDS = 120.0
TRAY_MB, NODE_MB, CORE_PERCENT = 120.0, 550.0, 1.0
NOTES = (
    "The tray and the node that it started, with its p2pd, while this PC waits for its owner to go: nothing "
    "is given, no window is open, nobody looks at the page. Facts are read from X, D-Bus and NVML as on any "
    "desktop. Memory is the proportional share; *resident* counts pages that others share too."
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tray")
    parser.add_argument("--seconds", type=float, default=ENOUGH, help=f"how long they wait ({ENOUGH:g})")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    results = Results("What waiting costs", NOTES, chosen.out, "tray")
    run = Run.here(quick=chosen.seconds < ENOUGH)
    with waiting() as tray:
        results.put(measure(tray, chosen.seconds), run)
    print(results.markdown())


@contextmanager
def waiting() -> Iterator[psutil.Process]:
    """A tray whose node has come and settled."""
    with tempfile.TemporaryDirectory(prefix="ib-") as home, virtual_screen() as screen, fake_bus() as bus:
        library = Path(home, "nvml")
        library.mkdir()
        build(library)
        gpu = FakeGpu(library, library / "state")
        paths = Paths.of(Path(home)).make()
        Memory(paths.state).keep("consented")
        Preferences(paths.settings_file).change(
            {"donate": "when_idle", "idle_minutes": 1440, "device": "cpu"}
        )
        environment = {
            **{name: value for name, value in os.environ.items() if name != "WAYLAND_DISPLAY"},
            **screen.environment,
            **bus.environment,
            **gpu.environment,
        }
        with started(("trayer", "--edge", "top"), environment), started(program(home), environment) as tray:
            end = time.monotonic() + START_SECONDS
            while door.find(paths.door_file) is None:
                if tray.poll() is not None or time.monotonic() > end:
                    raise SystemExit("the tray did not bring its node up")
                time.sleep(0.2)
            time.sleep(SETTLE_SECONDS)
            yield psutil.Process(tray.pid)


def program(home: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "idlebloom", "--data", home)


@contextmanager
def started(line: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which(line[0]) is None:
        raise SystemExit(f"{line[0]} is needed: apt-get install {line[0]}")
    process = subprocess.Popen(
        line, env=environment, cwd=code(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def measure(tray: psutil.Process, seconds: float) -> list[Row]:
    parts = {"tray": tray} | {kind(process): process for process in tray.children(recursive=True)}
    if set(parts) != {"tray", "node", "p2pd"}:
        raise SystemExit(f"there are other processes than expected: {', '.join(sorted(parts))}")
    before = {name: spent(process) for name, process in parts.items()}
    time.sleep(seconds)
    used = {name: 100 * (spent(process) - before[name]) / seconds for name, process in parts.items()}
    memory = {name: process.memory_full_info() for name, process in parts.items()}
    share = {name: one.pss / 1e6 for name, one in memory.items()}
    resident = {f"{name} resident": one.rss / 1e6 for name, one in memory.items()}
    enough = seconds >= ENOUGH
    rows = (
        ("tray-memory", "the tray, memory", "MB", share["tray"], Bar(TRAY_MB, at_least=False)),
        (
            "node-memory",
            "the node with its p2pd, memory",
            "MB",
            share["node"] + share["p2pd"],
            Bar(NODE_MB, at_least=False),
        ),
        (
            "cpu",
            f"all of them over {seconds:g} s, of one core",
            "%",
            sum(used.values()),
            Bar(CORE_PERCENT, at_least=False) if enough else None,
        ),
    )
    node = {name: value for name, value in (share | resident).items() if not name.startswith("tray")}
    beside = ({"resident": resident["tray resident"]}, node, used)
    return [
        Row(name, what, unit, Interval(value, value, value, 1), 0, "", bar, more)
        for (name, what, unit, value, bar), more in zip(rows, beside, strict=True)
    ]


def kind(process: psutil.Process) -> str:
    line = process.cmdline()
    return "p2pd" if process.name() == "p2pd" else "node" if "node" in line else " ".join(line[:4])


def spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
