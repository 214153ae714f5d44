"""A GPU for tests: a library like NVIDIA's (``fake_nvml.c``), built once a run, that reads a state file
anew at each call. A process's memory is what the living process holds, so it falls only when the process
has gone."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
LOST = 15


@dataclass(frozen=True)
class Card:
    """What the driver tells of it. ``processes``: (process id, use in percent); ``match``: (use, part of the
    command line)."""

    driver: str = "580.95"
    name: str = "NVIDIA GeForce RTX 4070"
    total: int = 12 << 30
    base: int = 300 << 20
    utilisation: int = 0
    temperature: int = 45
    error: int = 0
    processes: tuple[tuple[int, int], ...] = ()
    match: tuple[tuple[int, str], ...] = ()

    def __str__(self) -> str:
        lines = [
            f"driver {self.driver}",
            f"gpu {self.name}",
            f"total {self.total}",
            f"base {self.base}",
            f"utilisation {self.utilisation}",
            f"temperature {self.temperature}",
            f"error {self.error}",
        ]
        lines += [f"process {pid} {percent}" for pid, percent in self.processes]
        lines += [f"match {percent} {text}" for percent, text in self.match]
        return "\n".join(lines) + "\n"


@dataclass
class FakeGpu:
    """``library`` lies in ``folder``; what it tells is in ``state``."""

    folder: Path
    state: Path
    card: Card = field(default_factory=Card)

    def __post_init__(self) -> None:
        self.set()

    @property
    def library(self) -> Path:
        return self.folder / "libnvidia-ml.so.1"

    @property
    def environment(self) -> dict[str, str]:
        """For a process that shall find it."""
        return {"LD_LIBRARY_PATH": str(self.folder), "FAKE_NVML_STATE": str(self.state)}

    def load(self) -> None:
        """Into this process too: pynvml finds it by its name then. Its state is in the environment."""
        ctypes.CDLL(str(self.library))

    def set(self, **values: object) -> None:
        """The driver tells this from now on."""
        self.card = replace(self.card, **values)  # type: ignore[arg-type]
        draft = self.state.with_suffix(".draft")
        draft.write_text(str(self.card), encoding="utf-8")
        draft.replace(self.state)


def build(folder: Path) -> Path:
    """The library, compiled into ``folder``."""
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [
            "gcc",
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-Werror",
            "-Wl,-soname,libnvidia-ml.so.1",
            "-o",
            library,
            SOURCE,
        ],
        check=True,
    )
    return library
