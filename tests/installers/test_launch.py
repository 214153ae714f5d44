"""What a command of the installed package needs of the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINUX = Path(__file__).resolve().parents[2] / "installers" / "linux"


@pytest.mark.parametrize(
    ("arguments", "display", "group"),
    [
        ("", ":0", "window"),
        ("", "", "talk"),
        ("--help", "", "talk"),
        ("--data /x settings get", "", "talk"),
        ("status --json", ":0", "window"),
        ("node --owned", "", "headless"),
        ("demo", ":0", "node"),
        ("ask --max-tokens 5 Hello", "", "headless"),
    ],
)
def test_without_a_display_nothing_of_a_window_is_fetched(arguments: str, display: str, group: str) -> None:
    """And what only talks to a node needs neither PyTorch nor the swarm."""
    script = (
        f"import sys; sys.path.insert(0, {str(LINUX)!r}); import launch; "
        f"print(launch.group_for({arguments.split()!r}, {bool(display)}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == group


def test_a_damaged_package_is_said(tmp_path: Path) -> None:
    """Without its lock the launcher says what to do, in one line."""
    for module in LINUX.glob("*.py"):
        (tmp_path / module.name).write_bytes(module.read_bytes())
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", tmp_path / "launch.py", "node"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"idlebloom: the installation in {tmp_path} is damaged")
    assert len(done.stderr.splitlines()) == 1
