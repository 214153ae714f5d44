"""Checkpoints with random weights in named shapes, saved as transformers saves them.

    python -m benchmarks.checkpoints SHAPE FOLDER

in a process of its own, so that the memory it takes is gone when the measuring begins.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.paths import code


@dataclass(frozen=True)
class Shape:
    hidden: int
    heads: int
    blocks: int
    vocab: int
    dtype: str
    """What the file holds; it may be served in another."""
    hollow: bool = False
    """All weights are zeros that take no room on the disk: for blocks that are not computed."""


SHAPES = {
    # BLOOM-560m but for its vocabulary of 250,880, which would be half of all work.
    "560m": Shape(hidden=1024, heads=16, blocks=24, vocab=32_768, dtype="bfloat16"),
    # Activations of 2 KiB in float32, next to no work: what is left is the ring.
    "thin": Shape(hidden=512, heads=8, blocks=3, vocab=512, dtype="float32"),
    # The same activations through more layers, for many donors.
    "long": Shape(hidden=512, heads=8, blocks=12, vocab=512, dtype="float32"),
    # 28.7 KB an activation in float32, as much as BLOOM-176B's in bfloat16. One block takes 2.5 GB so.
    "wide": Shape(hidden=7168, heads=56, blocks=1, vocab=512, dtype="bfloat16"),
    # BLOOM-176B's activations in bfloat16, one block that is not computed (`wide_area.paced`).
    "hollow": Shape(hidden=14_336, heads=112, blocks=1, vocab=512, dtype="bfloat16", hollow=True),
    "tiny": Shape(hidden=64, heads=4, blocks=4, vocab=256, dtype="float32"),
}

LARGE = 4096


async def random_weights(shape: str, folder: Path) -> Path:
    """Saves a checkpoint of that shape in a new folder below ``folder``; returns its folder."""
    made = folder / f"random-{shape}"
    if not made.exists():
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.checkpoints", shape, str(made), cwd=code()
        )
        if await child.wait():
            raise RuntimeError(f"no checkpoint of the shape {shape} could be made")
    return made


def save(shape: Shape, folder: Path) -> None:
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        n_layer=shape.blocks,
        n_head=shape.heads,
        bos_token_id=1,
        eos_token_id=2,
    )
    config.seq_length = 2048  # as BLOOM's own files say it; transformers has no name for it
    if shape.hollow:
        config.save_pretrained(folder)
        _zeros(BloomForCausalLM, config, folder / "model.safetensors")
        return
    if shape.hidden > LARGE:  # drawn in float32 it would take twice the memory
        torch.set_default_dtype(getattr(torch, shape.dtype))
    model = BloomForCausalLM(config).to(getattr(torch, shape.dtype))
    model.save_pretrained(folder, safe_serialization=True)


def _zeros(kind: Any, config: Any, file: Path) -> None:
    """A safetensors file of bfloat16 zeros, as a hole."""
    import torch

    with torch.device("meta"):
        shapes = {name: list(value.shape) for name, value in kind(config).named_parameters()}
    entries: dict[str, dict[str, object]] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    with file.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        out.truncate(8 + len(header) + end)


if __name__ == "__main__":
    save(SHAPES[sys.argv[1]], Path(sys.argv[2]))
