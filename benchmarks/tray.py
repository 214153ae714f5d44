"""What the tray costs while it waits: memory, and CPU time over a while, with its node beside it.

    python -m benchmarks.tray [--seconds S] [--json FILE]

Starts the real tray and its node on a display (Xvfb will do) with data of their own, waits until they have
settled, and counts. Memory is the proportional share (PSS): what the processes would take from a PC that runs
neither. Bars: tray 120 MB, node with its p2pd 550 MB, all of them together 1 % of a core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from core import door
from core.paths import Paths
from core.preferences import Preferences
from desktop.memory import Memory

SETTLE_SECONDS = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        paths = Paths.of(Path(home)).make()
        Memory(paths.state).keep("consented")
        Preferences(paths.settings_file).change({"donate": "when_idle", "port": 7790})
        tray = subprocess.Popen(
            [sys.executable, "-m", "idlebloom", "--data", home], stderr=subprocess.DEVNULL
        )
        try:
            while door.find(paths.door_file) is None:
                time.sleep(0.2)
            time.sleep(SETTLE_SECONDS)
            found = measure(tray.pid, args.seconds)
        finally:
            tray.terminate()
            tray.wait()
    for name, value in found.items():
        print(f"{name:20} {value:.2f}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def measure(pid: int, seconds: float) -> dict[str, float]:
    """Megabytes, and hundredths of a core."""
    tray = psutil.Process(pid)
    rest = tray.children(recursive=True)
    before = [spent(process) for process in (tray, *rest)]
    time.sleep(seconds)
    after = [spent(process) for process in (tray, *rest)]
    used = [100 * (b - a) / seconds for a, b in zip(before, after, strict=True)]
    return {
        "tray MB": tray.memory_full_info().pss / 1e6,
        "node and p2pd MB": sum(process.memory_full_info().pss for process in rest) / 1e6,
        "tray CPU %": used[0],
        "all CPU %": sum(used),
    }


def spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
