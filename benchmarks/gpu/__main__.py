"""BLOOM-176B's blocks on this PC's NVIDIA GPU, random weights, one report.

    python -m benchmarks.gpu [--only layers ring cap release] [--out DIR]

Needs CUDA, bitsandbytes and 70 GB of GPU memory; the others also hivemind and 30 GB of disk in the folder
for temporary files. On an H100 it takes about ten minutes.
"""

from __future__ import annotations

import argparse
import logging
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.measure import Results, Row, Run
from core.paths import code

NOTES = """\
Random weights in BLOOM-176B's shape (hidden 14,336, 112 heads), on one GPU. A block's time is that of a
whole step of several blocks, its table and input copied to the device and its output back, divided by the
blocks. The bound of a decode step is the bytes of a block's matrices over the memory bandwidth measured in
the same run; that of prefill is two operations a number and row over the rate of a large product measured
likewise. Medians with the interval of order statistics that holds them with at least 95 %. Rows of workers
are of real donors in processes of their own on loopback; see `benchmarks/gpu`."""

WORKERS = ("ring", "cap", "release")
PARTS = ("layers", *WORKERS)


def main() -> None:
    words = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=words)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--out", type=Path, default=code() / "benchmarks" / "results", help="folder of the results"
    )
    parser.add_argument("--commit", help="of the measured code, where there is no git")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    device = torch.device("cuda", 0)
    results = Results("BLOOM-176B's blocks on a GPU", NOTES, arguments.out, "gpu")
    here = Run.here(quick=False)
    versions = dict(here.versions)
    if arguments.commit:
        versions["idlebloom"] = arguments.commit
    run = replace(here, machine=f"{torch.cuda.get_device_name(device)}; {here.machine}", versions=versions)
    for row in rows_of(arguments.only, device):
        results.put([row], run)
        print(row.name, f"{row.value.median:.4g}", row.unit, row.verdict, dict(row.beside), flush=True)


def rows_of(parts: Sequence[str], device: torch.device) -> Iterator[Row]:
    """A part that fails is told of and ends; the rows before it stand."""
    if "layers" in parts:
        from benchmarks.gpu.layers import all_rows

        try:
            yield from all_rows(device)
        except Exception:  # noqa: BLE001 - whatever it was, it must not cost the other parts' rows
            traceback.print_exc()
    if of_workers := [part for part in parts if part in WORKERS]:
        from benchmarks.gpu.workers import rows_of as rows_of_workers

        yield from rows_of_workers(of_workers)


if __name__ == "__main__":
    main()
