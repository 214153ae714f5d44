"""The setup for Windows: what it lays down, and the two programs that makensis makes for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent / "windows"
MODULES = ("setup.py", "fetching.py", "installing.py", "release.py", "progress_window.py")
"""Of the first start, shared with the Linux package."""
OWN = ("launch.py", "lock.json", "idlebloom.cmd", "LICENSES.txt")


def compiled(script: str, out: Path, environment: Mapping[str, str], **defined: object) -> Path:
    """A program of makensis, with these words defined for its script."""
    words = [f"-D{name}={value}" for name, value in {**defined, "OUT": out}.items()]
    command = ["makensis", "-V2", "-WX", "-NOCD", *words, str(HERE / script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"makensis could not make {out.name}: {(done.stdout + done.stderr)[-2000:]}")
    return out


def setup(folder: Path, out: Path, environment: Mapping[str, str], version: str, python: str) -> Path:
    """The setup, of what lies in ``folder``; files packed already in its folder *packed*."""
    compiled(
        "start.nsi",
        folder / "Idlebloom.exe",
        environment,
        VERSION=version,
        PYTHON=python,
        ICON=folder / "idlebloom.ico",
    )
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        os.utime(path, (int(environment["SOURCE_DATE_EPOCH"]),) * 2)
    size = sum(path.stat().st_size for path in files) // 1024
    return compiled(
        "setup.nsi", out, environment, VERSION=version, PYTHON=python, STAGE=folder, KILOBYTES=size
    )
