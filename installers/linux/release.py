"""What this package carries, what of it a user's environment needs, and where that environment lies."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

AGAIN = "Start Idlebloom again: it goes on where it stopped."
PARTS = {
    "talk": {"base"},
    "window": {"base", "screen"},
    "headless": {"base", "node", "cuda"},
    "node": {"base", "screen", "node", "cuda"},
}
"""What can be asked for, and which of the lock's groups it takes. *talk* is what speaks to a running node,
*window* the tray too; *headless* is a whole node without a window, *node* is all."""
Say = Callable[[dict[str, object]], None]


class SetupError(Exception):
    """What is wrong and what to do, in one line."""


@dataclass(frozen=True)
class File:
    """One file of the lock."""

    name: str
    file: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Release:
    """What the package carries: the lock, the program as a wheel, uv."""

    folder: Path
    lock: dict[str, object]
    app: File

    @classmethod
    def read(cls, folder: Path) -> Release:
        try:
            lock = json.loads((folder / "lock.json").read_text(encoding="utf-8"))
            app = File(**json.loads((folder / "app.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise SetupError(
                f"the installation in {folder} is damaged ({error}). Install it again."
            ) from error
        return cls(folder, lock, app)

    def files(self, group: str, python: str, cuda: bool) -> list[File]:
        """What ``group`` needs, in the order to fetch. Smaller ones first: what can fail fails early."""
        if python not in self.lock["pythons"]:
            known = ", ".join(self.lock["pythons"])
            raise SetupError(
                f"Python {python} is not supported yet; this release knows {known}. Install one of them."
            )
        cpu = None if cuda else self.lock["torch_cpu"].get(python)
        found = []
        for name, package in self.lock["packages"].items():
            if package["group"] not in PARTS[group] or python not in package["files"]:
                continue
            if cpu is not None and package["group"] == "cuda":
                continue
            found.append(File(name=name, **package["files"][python]))
        if cpu is not None and "cuda" in PARTS[group]:
            found.append(File(name="torch", **cpu))
        return sorted(found, key=lambda file: file.size)


@dataclass(frozen=True)
class Place:
    """Where one user's environment lies."""

    root: Path

    @classmethod
    def of_user(cls) -> Place:
        if os.name == "nt":
            return cls(Path(os.environ["LOCALAPPDATA"]) / "Idlebloom")
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return cls(Path(data) / "idlebloom")

    @property
    def env(self) -> Path:
        return self.root / "env"

    @property
    def python(self) -> Path:
        return self.env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def packages(self) -> str:
        """Where installed packages are, as a pattern below the environment."""
        return "Lib/site-packages" if os.name == "nt" else "lib/python3*/site-packages"

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    def stamp(self, group: str) -> Path:
        return self.root / f"{group}.ready"

    def make(self) -> None:
        try:
            self.wheels.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SetupError(
                f"cannot write to {self.root}: {error.strerror}. Mend that, then start again."
            ) from error


def fingerprint(files: Sequence[File], app: File) -> str:
    """What an environment was made of; another release's differs."""
    text = "\n".join(f"{file.file} {file.sha256}" for file in [*files, app])
    return hashlib.sha256(
        f"{text}\n{python_version()} {os.path.realpath(sys.executable)}".encode()
    ).hexdigest()


def python_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/usr/lib/wsl/lib/libnvidia-ml.so.1").exists()


def wants_cuda(place: Place) -> bool:
    """By the driver; a build for CUDA is kept when the driver has gone for a while (an update of it, say)."""
    return has_nvidia_driver() or (place.root / "cuda").exists()


def disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
