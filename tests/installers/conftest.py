"""What is built once for all of these tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

INSTALLERS = Path(__file__).resolve().parents[2] / "installers"


@pytest.fixture(scope="session")
def build() -> Iterator[ModuleType]:
    """The release's program as a module."""
    sys.path.insert(0, str(INSTALLERS))
    import build as module

    yield module
    sys.path.remove(str(INSTALLERS))


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, as the command builds it."""
    out = tmp_path_factory.mktemp("deb")
    command = [sys.executable, INSTALLERS / "build.py", "deb", "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.deb"))
