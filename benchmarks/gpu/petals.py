"""Petals' own blocks on the same GPU beside ours: one token of one session through several of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import torch

from benchmarks.gpu.blocks import BYTES, HEADS, HIDDEN, Steps, random_span, times
from benchmarks.gpu.layers import NAMES, free, row, speeds
from benchmarks.gpu.scale import BLOOM, SCALE
from benchmarks.measure import Interval, Row
from benchmarks.petals.install import PETALS, python
from core.model.quantize import Quantization
from core.paths import code

PLACE = "IDLEBLOOM_PETALS"
"""Where its packages and those that it needs lie, for this interpreter, on a PC that cannot install any."""
KINDS = {Quantization.NF4: "NF4", Quantization.NONE: "NONE", Quantization.INT8: "INT8"}
BLOCKS, WARM, SAMPLES = 2, 4, 15
SECONDS = 140.0


def petals_rows(device: torch.device) -> Iterator[Row]:
    """A row a kind and length, as many as there is time for; what its code raises is an error here."""
    if SCALE is not BLOOM and PLACE not in os.environ:
        return  # nothing is installed to try out a run
    theirs, speed = _theirs(device), speeds(device)[0]
    for kind in [one for one, name in KINDS.items() if name in theirs]:
        name = NAMES[kind]
        model = random_span(BLOCKS, kind, device)
        for length in SCALE.lengths:
            ours = Interval.of(times(Steps(model, 1, length), SAMPLES, WARM)).median / BLOCKS
            model.forget_recordings()
            found = theirs[KINDS[kind]]
            if isinstance(found, str):
                raise RuntimeError(f"Petals' block in {name}: {found}")
            each = [seconds / BLOCKS for seconds in found[str(length)]]
            yield row(
                f"petals-{name}-{length}",
                f"Petals {PETALS}'s own blocks, one session, cache of {length}: its time over that of ours",
                "×",
                [seconds / ours for seconds in each],
                name,
                beside={
                    "its block, ms": 1e3 * Interval.of(each).median,
                    "ours, ms": 1e3 * ours,
                    "part of the bound by memory, its": BYTES[kind] / speed / Interval.of(each).median,
                },
                bound="its merged inference step over its cache, without its pools, streams and processes",
            )
        del model
        free()


def _theirs(device: torch.device) -> dict[str, dict[str, list[float]] | str]:
    program, place = code() / "benchmarks" / "petals" / "blocks.py", os.environ.get(PLACE)
    asked = {
        "device": str(device),
        "dtype": "bfloat16",
        "hidden": HIDDEN,
        "heads": HEADS,
        "blocks": BLOCKS,
        "kinds": list(KINDS.values()),
        "lengths": SCALE.lengths,
        "most": SCALE.length,
        "warm": WARM,
        "samples": SAMPLES,
        "place": place,
    }
    command = [sys.executable if place else str(python()), "-P", str(program), json.dumps(asked)]
    try:
        said = subprocess.run(command, stdout=subprocess.PIPE, timeout=SECONDS, check=True).stdout
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""  # a line more for every kind: those that it came to
    found: dict[str, dict[str, list[float]] | str] = json.loads(said.splitlines()[-1])
    return found
