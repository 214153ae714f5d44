"""BLOOM-176B's blocks on this PC's NVIDIA GPU, random weights, one report.

    python -m benchmarks.gpu [--only SECTION …] [--minutes M] [--out DIR] [--tiny]

Sections run one after the other, each in a process of its own; the rows of each are in the report as they
come. One that has too little of the minutes left is not begun, and one that runs over ends. Needs CUDA,
bitsandbytes and 70 GB of GPU memory; those of workers also hivemind and 30 GB of disk in the folder for
temporary files. ``--tiny`` tries all of it out on the CPU, with next to no model; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.scale import VARIABLE
from benchmarks.gpu.sections import SECTIONS, SERVED
from core.paths import code

FILES_SECONDS = 120
KEPT_SECONDS = 5.0
"""Of the minutes, for ending."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The number of sections that failed or were not begun."""
    words = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=words)
    parser.add_argument("--only", nargs="+", choices=tuple(SECTIONS), default=tuple(SECTIONS))
    parser.add_argument("--minutes", type=float, default=30.0, help="in all")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to try the run out")
    parser.add_argument("--files", type=Path, help="folder for checkpoints, kept; else a temporary one")
    parser.add_argument("--out", type=Path, default=code() / "benchmarks" / "results")
    parser.add_argument("--commit", default="", help="of the measured code, where there is no git")
    given = parser.parse_args(arguments)
    if given.tiny:
        os.environ[VARIABLE] = "tiny"
    until = time.monotonic() + 60 * given.minutes - KEPT_SECONDS
    failed = []
    with tempfile.TemporaryDirectory(prefix="gpu-") as made:
        files = given.files or Path(made, "files")
        for name in given.only:
            left = until - time.monotonic()
            needed = 0 if given.tiny else SECTIONS[name].seconds / 1.5
            if left < needed or not _has_files(name, files, left):
                print(f"{name}: not begun, {left:.0f} s are left", flush=True)
                failed.append(name)
                continue
            left = until - time.monotonic()
            most = left if given.tiny else min(left, 2.0 * SECTIONS[name].seconds)
            started = time.monotonic()
            command = ("benchmarks.gpu.section", name, str(files), str(given.out), given.commit)
            ended = _run(command, most)
            print(f"{name}: {ended} after {time.monotonic() - started:.0f} s", flush=True)
            if ended != "done":
                failed.append(name)
    print(f"failed or not begun: {' '.join(failed) or 'none'}", flush=True)
    return len(failed)


def _has_files(name: str, files: Path, seconds: float) -> bool:
    """Makes the checkpoints where a section needs them and they are not there."""
    if name not in SERVED or files.exists():
        return True
    ended = _run(("benchmarks.gpu.files", str(files)), min(seconds, FILES_SECONDS))
    print(f"files: {ended}", flush=True)
    return ended == "done"


def _run(command: Sequence[str], seconds: float) -> str:
    """How ``python -m command`` ended; after so long all of its group is ended."""
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=code(), start_new_session=True)
    try:
        return f"ended with {ended}" if (ended := process.wait(max(seconds, 1.0))) else "done"
    except subprocess.TimeoutExpired:
        return "out of time"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
