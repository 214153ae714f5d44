"""Where quantized layers lie on the disk. No torch: who only wants to know need not wait for it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from core.model.config import SOURCE_FILE, ModelConfig
from core.terms import Span

FORMAT = "1"
"""Raised when what the files hold changes its meaning: older ones are then made anew."""
HEAD = "head"
"""The name of the head among a store's layers; blocks are named as in the checkpoint, ``h.7``."""


def layer_name(config: ModelConfig, layer: int) -> str:
    """The name of a layer's file in a store; layer 0 has none: its rows are read from the checkpoint."""
    if layer == 0:
        return "embedding"
    return HEAD if layer == config.layers - 1 else f"h.{layer - 1}"


def store_folder(root: Path, folder: Path, config: ModelConfig, kind: str) -> Path:
    """Of quantized layers of the checkpoint in ``folder``, kept below ``root``."""
    name = re.sub(r"[^\w.-]+", "--", config.model_id).strip(".") or "model"
    return root / name / f"{config.revision}{_stamp(folder)}" / f"{kind}-{FORMAT}"


def layer_file(folder: Path, layer: str) -> Path:
    return folder / f"{layer}.safetensors"


def files_of(root: Path, folder: Path, config: ModelConfig, kind: str, span: Span) -> list[Path]:
    """The files of the layers of ``span``, whether they are there or not, in their order."""
    store = store_folder(root, folder, config, kind)
    return [layer_file(store, layer_name(config, layer)) for layer in range(max(1, span.start), span.end)]


def _stamp(folder: Path) -> str:
    """What a local folder's revision leaves out: when its files were written. A commit needs none."""
    if (folder / SOURCE_FILE).is_file():
        return ""
    found = [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safetensors"))]
    return "-" + hashlib.sha256(json.dumps(found).encode()).hexdigest()[:8]
