"""The benchmark runs and says what it must; how fast anything is, is not this test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from core.paths import code


def test_rows_come_out(tmp_path: Path) -> None:
    """The bundled model's rows name machine, versions, threads and dtype, and both sides say the same."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.loopback", "--quick", "--only", "toy", "--out", str(tmp_path)],
        cwd=code(),
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "loopback.json").read_text())["rows"]
    assert [row["bar"] for row in rows] == [None, "≥ 0.8"]
    for row in rows:
        assert row["value"]["median"] > 0
        assert (row["threads"], row["dtype"], row["beside"]["same tokens"]) == (1, "float32", 1.0)
        assert row["run"]["machine"] and {"torch", "transformers", "hivemind"} <= set(row["run"]["versions"])
    assert "3 donors on loopback" in (tmp_path / "loopback.md").read_text() == done.stdout.rstrip("\n") + "\n"
