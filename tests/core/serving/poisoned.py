"""A worker whose device fails when a file appears, then and ever after, as a GPU fails a process in which a
kernel has written astray: ``python -m tests.core.serving.poisoned FILE``, then the worker's own arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from core.model.cache import CachePool
from core.model.span import Rows, SpanModel
from core.serving import worker

WORDS = "CUDA error: an illegal memory access was encountered"
MORE = "CUDA kernel errors might be asynchronously reported at some other API call."


def main() -> None:
    file, run, poisoned = Path(sys.argv.pop(1)), SpanModel.run, False

    def fragile(model: SpanModel, batch: Sequence[Rows], pool: CachePool) -> list[torch.Tensor]:
        nonlocal poisoned
        if file.exists():
            file.unlink()
            poisoned = True
        if poisoned:
            raise torch.AcceleratorError(f"{WORDS}\n{MORE}")
        return run(model, batch, pool)

    SpanModel.run = fragile  # type: ignore[method-assign]
    worker.main()


if __name__ == "__main__":
    main()
