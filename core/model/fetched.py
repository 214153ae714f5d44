"""What lies in a fetched folder, and what the hub listed for it."""

from __future__ import annotations

import json
from pathlib import Path

from core.errors import ModelError
from core.model.config import SOURCE_FILE, ModelConfig
from core.model.hub import HubFile, Snapshot
from core.model.parts import part_name
from core.model.weights import span_tensors
from core.terms import Span

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_json(path: Path) -> dict[str, object]:
    """The JSON object in ``path``; an empty one where there is none, or none that makes sense."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def listing(folder: Path) -> Snapshot | None:
    """What the hub listed for a fetched folder; ``None`` for any other."""
    raw = read_json(folder / SOURCE_FILE)
    try:
        files = [HubFile(**file) for file in raw["files"]]  # type: ignore[attr-defined]
        model_id, commit = str(raw["model_id"]), str(raw["revision"])
    except (KeyError, TypeError):
        return None
    return Snapshot(model_id, commit, {file.name: file for file in files})


def check_safe(snapshot: Snapshot) -> None:
    """``ModelError`` for a revision whose weights are pickled, or that has none."""
    if SINGLE in snapshot.files or INDEX in snapshot.files:
        return
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in snapshot.files):
        raise ModelError(
            f"{snapshot.model_id} has pickled weights only, which can run code when they are read",
            "Choose a revision or a copy with safetensors files.",
        )
    raise ModelError(f"{snapshot.model_id} holds no weights", "Choose another model.")


def layers_here(folder: Path, config: ModelConfig) -> frozenset[int]:
    """The layers whose weights are in a fetched folder, whole."""
    where = read_json(folder / INDEX).get("weight_map")
    tied = not (isinstance(where, dict) and any(name.endswith("lm_head.weight") for name in where))
    found = set()
    for layer in range(config.layers):
        names = {part_name(name) for name in span_tensors(config, Span(layer, layer + 1), tied=tied)}
        if all((folder / name).is_file() for name in names):
            found.add(layer)
    return frozenset(found)


def weights_listed(folder: Path) -> int:
    """Bytes of all weights of the model in a fetched folder, as the hub lists them; of a local one, as
    they lie there."""
    snapshot = listing(folder)
    if snapshot is None:
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if SINGLE in snapshot.files:
        return snapshot.files[SINGLE].size
    shards = (name for name in snapshot.files if name.endswith(".safetensors") and "/" not in name)
    return sum(snapshot.files[name].size for name in shards)
