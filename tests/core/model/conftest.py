"""Random BLOOM checkpoints of any shape, whose every weight matters, and transformers' view of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from transformers import BloomConfig, BloomForCausalLM

torch.set_num_threads(1)

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Writes a checkpoint: ``make_model(heads=12, blocks=3, …)`` → its folder."""

    def make(
        *,
        hidden: int = 48,
        heads: int = 6,
        blocks: int = 3,
        vocab: int = 300,
        dtype: torch.dtype = torch.float32,
        post: bool = False,
        prefix: bool = True,
        lm_head: bool = False,
        shard: str | None = None,
        spread: float = 0.3,
    ) -> Path:
        folder = tmp_path_factory.mktemp("bloom")
        torch.manual_seed(heads * 1000 + blocks)
        config = BloomConfig(
            vocab_size=vocab,
            hidden_size=hidden,
            n_layer=blocks,
            n_head=heads,
            apply_residual_connection_post_layernorm=post,
            tie_word_embeddings=not lm_head,
        )
        model = BloomForCausalLM(config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                scale = (
                    spread
                    if weight.dim() == 1 or "word_embeddings" in name
                    else 1.5 * weight.shape[1] ** -0.5
                )
                weight.normal_(0.0, scale)
                if "layernorm.weight" in name or "ln_f.weight" in name:
                    weight.add_(1.0)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard or "5GB")
        if not prefix:
            path = folder / "model.safetensors"
            tensors = {name.removeprefix("transformer."): one for name, one in load_file(path).items()}
            save_file(tensors, path, metadata={"format": "pt"})
        return folder

    return make


@pytest.fixture(scope="session")
def reference() -> Callable[..., BloomForCausalLM]:
    """transformers' model of a folder; its keys must have the prefix that transformers writes."""

    def load(folder: Path, dtype: torch.dtype = torch.float32) -> BloomForCausalLM:
        return BloomForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()

    return load
