"""What the tray and ``doctor`` read of this PC's GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.measure import Bar, Interval, Row
from core.paths import code
from core.pc.gpu import GpuWatch, read_gpus


def reading_rows(_files: Path) -> Iterator[Row]:
    """The readings with this very process on the GPU, and doctor's findings."""
    here = torch.zeros(1 << 20, device="cuda") if torch.cuda.is_available() else None
    gpus = read_gpus()
    use = GpuWatch(0).read({os.getpid()})
    said = f"{gpus}; {use}"
    del here
    yield Row(
        "readings",
        "GPUs that NVML tells of, as the tray reads them",
        "",
        Interval.of([float(len(gpus.found))]),
        0,
        "",
        bar=Bar(1.0) if torch.cuda.is_available() else None,
        bound=said[:1500],
    )
    with tempfile.TemporaryDirectory(prefix="gpu-doctor-") as data:
        ended = subprocess.run(
            [sys.executable, "-m", "idlebloom", "doctor", "--json", "--data", data],
            cwd=code(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    findings = json.loads(ended.stdout) if ended.stdout.startswith("[") else []
    levels = [one["level"] for one in findings]
    words = "; ".join(f"{one['name']}: {one['message']}" for one in findings) or ended.stderr[-500:]
    yield Row(
        "doctor",
        "findings of doctor that are well",
        "",
        Interval.of([float(levels.count("ok"))]),
        0,
        "",
        beside={name: float(levels.count(name)) for name in ("warn", "fail")},
        bound=words[:2500],
    )
