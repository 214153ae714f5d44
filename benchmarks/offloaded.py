"""accelerate's offloading in one process: what does not fit lies on disk and is read for every token.

    OFFLOAD_BYTES=400000000 python -m benchmarks.offloaded FOLDER DTYPE THREADS

Started by ``benchmarks.offloading``, with accelerate on ``PYTHONPATH``. ``OFFLOAD_GROUP`` names a control
group with a memory limit to live in, so that the system's file cache does not hold what does not fit.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from transformers import BloomForCausalLM

from benchmarks.children import Answer, serve
from benchmarks.reference import answering


def load(folder: Path, dtype: str) -> Answer:
    if group := os.environ.get("OFFLOAD_GROUP"):
        Path(group, "cgroup.procs").write_text(str(os.getpid()), "ascii")
    model = BloomForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        device_map="auto",
        max_memory={"cpu": int(os.environ["OFFLOAD_BYTES"])},
        offload_folder=tempfile.mkdtemp(prefix="offload-"),
    )
    return answering(model)


if __name__ == "__main__":
    serve(load)
