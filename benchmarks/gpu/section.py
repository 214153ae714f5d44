"""One section of the run, its rows into the report as they come:

python -m benchmarks.gpu.section NAME FILES OUT COMMIT
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu.blocks import DEVICE
from benchmarks.gpu.scale import BLOOM, SCALE
from benchmarks.gpu.sections import SECTIONS
from benchmarks.measure import Results, Run

NOTES = """\
Random weights in BLOOM-176B's shape (hidden 14,336, 112 heads), on one GPU. A block's time is that of a
whole step of several blocks, its table and input copied to the device and its output back, divided by the
blocks. The bound of a decode step is the bytes of a block's matrices over the memory bandwidth measured in
the same run; that of prefill is two operations a number and row over the rate of a large product measured
likewise. Medians with the interval of order statistics that holds them with at least 95 %. Rows of workers
are of real donors in processes of their own, on loopback or, where links are named, each on a host of its
own with an internet in user space between them (`benchmarks/internet`); all share the one GPU."""


def main() -> None:
    name, files, out, commit = sys.argv[1:5]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    here = Run.here(quick=SCALE is not BLOOM)
    device = "no GPU" if DEVICE.type == "cpu" else torch.cuda.get_device_name(DEVICE)
    versions = dict(here.versions) | ({"idlebloom": commit} if commit else {})
    run = replace(here, machine=f"{device}; {here.machine}", versions=versions)
    results = Results("BLOOM-176B's blocks on a GPU", NOTES, Path(out), "gpu")
    for row in SECTIONS[name].rows(Path(files)):
        results.put([row], run)
        print(row.name, f"{row.value.median:.4g}", row.unit, row.verdict, dict(row.beside), flush=True)


if __name__ == "__main__":
    main()
