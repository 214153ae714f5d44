"""Checkpoints in BLOOM-176B's shape on disk, of one random block: the quantized files of all blocks are links
to its own, since a step's time does not depend on what the numbers are.

    python -m benchmarks.gpu.files FOLDER

in a process of its own, which leaves no memory of the device taken.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.gpu.blocks import DEVICE, DTYPE, HEADS, HIDDEN, SHAPES, SPREAD, VOCAB
from benchmarks.gpu.scale import SCALE
from core.model.block import NORMS
from core.model.config import read_config
from core.model.quantize import Quantization, of_head, pack
from core.model.store import Store, store_of
from core.model.stored import HEAD

SIZES = {"ring": SCALE.ring, "one": SCALE.one}
"""Blocks of each checkpoint."""
KINDS = (Quantization.INT8, Quantization.NF4)


def make(folder: Path, device: torch.device) -> None:
    """``folder/ring`` and ``folder/one``, their quantized layers in ``folder/store``."""
    words = torch.randn(VOCAB, HIDDEN, device=device, dtype=DTYPE)
    ones, zeros = torch.ones(HIDDEN, dtype=DTYPE), torch.zeros(HIDDEN, dtype=DTYPE)
    ends = {"word_embeddings.weight": words.cpu()}
    for name in ("word_embeddings_layernorm", "ln_f"):
        ends |= {f"{name}.weight": ones.clone(), f"{name}.bias": zeros.clone()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(ends, folder / "ends.safetensors")
    parts = {
        Quantization.INT8: _block(Quantization.INT8, device),
        Quantization.NF4: _block(Quantization.NF4, device),
    }
    head = pack(words, "matrix", of_head(Quantization.NF4)) | {
        "ln_f.weight": ones.float(),
        "ln_f.bias": zeros.float(),
    }
    for name, blocks in SIZES.items():
        made = folder / name
        made.mkdir()
        config = {
            "model_type": "bloom",
            "_name_or_path": f"random/{name}",
            "hidden_size": HIDDEN,
            "n_layer": blocks,
            "n_head": HEADS,
            "vocab_size": VOCAB,
            "seq_length": 2048,
            "layer_norm_epsilon": 1e-5,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        (made / "config.json").write_text(json.dumps(config), "utf-8")
        os.link(folder / "ends.safetensors", made / "model.safetensors")
        for kind in KINDS:
            store = store_of(folder / "store", made, read_config(made), kind)
            _fill(store, Store(folder / "shared" / kind), {"h.0": parts[kind], HEAD: head}, blocks)


def _fill(store: Store, shared: Store, parts: dict[str, dict[str, torch.Tensor]], blocks: int) -> None:
    """The first time the files are written, then they are linked."""
    for name, tensors in parts.items():
        if not shared.size(name):
            shared.write(name, tensors)
    store.folder.mkdir(parents=True, exist_ok=True)
    os.link(shared.path(HEAD), store.path(HEAD))
    for number in range(blocks):
        os.link(shared.path("h.0"), store.path(f"h.{number}"))


def _block(kind: Quantization, device: torch.device) -> dict[str, torch.Tensor]:
    held: dict[str, torch.Tensor] = {}
    for name, shape in SHAPES.items():
        held |= pack(SPREAD * torch.randn(*shape, device=device, dtype=DTYPE), name, kind)
        held[f"{name}.bias"] = 0.1 * torch.randn(shape[0], dtype=DTYPE)
    for name in NORMS:
        held[f"{name}.weight"] = torch.ones(HIDDEN)
        held[f"{name}.bias"] = torch.zeros(HIDDEN)
    return held


if __name__ == "__main__":
    make(Path(sys.argv[1]), DEVICE)
