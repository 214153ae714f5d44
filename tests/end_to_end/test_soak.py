"""Donors vanish under readers, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from core.paths import code

DISTURBANCES = 50


def test_readers_notice_nothing_but_pauses_while_donors_vanish(tmp_path: Path) -> None:
    """Killed, hung, restarted: no reader gets an error, and every text is the undisturbed one."""
    arguments = ["--kills", str(DISTURBANCES), "--log", str(tmp_path / "log"), "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "benchmarks.soak", *arguments], cwd=code(), check=True, timeout=900)
    found = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    assert found["disturbances"] == DISTURBANCES
    assert found["answers"] >= 8
    assert found["recoveries"] >= 1
    assert (found["errors"], found["first_errors"]) == (0, [])
    assert found["wrong"] == 0
    assert found["ties"] <= max(1, found["tokens"] / 5000)
