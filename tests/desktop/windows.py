"""A PC with Windows, as far as the launcher sees it: a fake ``wsl.exe`` on PATH and a user's folders."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from desktop.wsl import Wsl
from desktop.wsl_setup import Place, make_ready

FAKE = Path(__file__).with_name("fake_wsl.py")


@dataclass(frozen=True)
class Windows:
    folder: Path

    @property
    def fake(self) -> Path:
        """How its WSL is, a file a thing."""
        return self.folder / "wsl"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def place(self) -> Place:
        return Place(self.folder / "carried", self.folder / "local" / "linux")

    @property
    def disk(self) -> dict[str, object]:
        return dict(json.loads(self.place.disk.read_text()))

    @property
    def asked(self) -> list[list[str]]:
        """Every line that wsl.exe was started with."""
        log = self.fake / "asked"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def has(self, what: str, content: str = "") -> None:
        (self.fake / what).write_text(content)

    def carries(self, version: str) -> None:
        (self.place.carried / "version").write_text(version + "\n")
        self.place.root.write_text(version)

    def imported(self, node: str) -> None:
        """It has the distribution, lived in or not, in which the program ``node`` runs as Idlebloom."""
        self.place.home.mkdir()
        self.place.disk.write_text('{"version": "0.1.0", "models": {}}')
        self.has("disk", str(self.place.disk))
        self.has("registered", "Idlebloom")
        self.has("node.py", node)

    def ready(self) -> list[dict[str, object]]:
        """Makes it ready; what was said meanwhile."""
        said: list[dict[str, object]] = []
        make_ready(Wsl(), self.place, said.append)
        return said


def make(folder: Path) -> Windows:
    made = Windows(folder)
    for part in (made.fake, made.bin, made.place.carried, made.place.home.parent):
        part.mkdir(parents=True)
    program = made.bin / "wsl.exe"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FAKE} "$@"\n')
    program.chmod(0o755)
    made.carries("0.1.0")
    return made


def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    """This process is on such a PC."""
    made = make(folder)
    monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_WSL", str(made.fake))
    return made
