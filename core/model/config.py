"""What a BLOOM folder says about itself, read from its small JSON files and checked. No tensors here."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.terms import ModelRef

DEFAULT_LENGTH = 2048
"""BLOOM was trained on sequences of this many tokens, and its checkpoints do not say so."""

SOURCE_FILE = "idlebloom.json"
"""In a folder fetched from a hub: which model and commit it is."""

_LENGTH_KEYS = ("seq_length", "n_positions", "max_position_embeddings")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of one BLOOM checkpoint; sizes are counts of elements, lengths are tokens."""

    hidden: int
    heads: int
    blocks: int
    vocab: int
    epsilon: float
    residual_post_layernorm: bool
    max_length: int
    bos_id: int | None
    eos_ids: tuple[int, ...]
    model_id: str
    revision: str

    @property
    def layers(self) -> int:
        """The chain's links: word embeddings, the blocks, the head."""
        return self.blocks + 2

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


def ref(config: ModelConfig) -> ModelRef:
    """The weights' name, as all stages of a route must agree on it."""
    return ModelRef(config.model_id, config.revision, config.layers)


def read_config(folder: Path) -> ModelConfig:
    """The checked configuration of the local Hugging Face BLOOM checkpoint in ``folder``.

    Raises ModelError where a file is missing or unreadable, or a value makes no sense.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}", "Give the folder that holds config.json.")
    path = folder / "config.json"
    raw = read_object(path)
    if raw.get("model_type") != "bloom":
        raise ModelError(
            f"{path} describes a model of type {raw.get('model_type')!r}, not BLOOM",
            "Idlebloom runs BLOOM checkpoints only, such as bigscience/bloomz-560m.",
        )
    fields = _Fields(path, raw)
    hidden = fields.count("hidden_size", "n_embed")
    heads = fields.count("n_head", "num_attention_heads")
    if hidden % heads:
        raise ModelError(f"{path}: hidden_size {hidden} is not a multiple of n_head {heads}", _REPAIR)
    vocab = fields.count("vocab_size")
    return ModelConfig(
        hidden=hidden,
        heads=heads,
        blocks=fields.count("n_layer", "num_hidden_layers"),
        vocab=vocab,
        epsilon=fields.epsilon(),
        residual_post_layernorm=fields.flag("apply_residual_connection_post_layernorm"),
        max_length=fields.length(),
        bos_id=next(iter(fields.ids("bos_token_id", vocab)), None),
        eos_ids=_eos_ids(folder, fields, vocab),
        model_id=_fetched(folder, "model_id") or _model_id(folder, raw),
        revision=_fetched(folder, "revision") or _revision(folder),
    )


_REPAIR = "Restore the file from where the checkpoint came from."


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; ModelError where it is missing or is not one."""
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", _REPAIR) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from None
    except ValueError:
        raise ModelError(f"{path} is not valid JSON", _REPAIR) from None
    if not isinstance(raw, dict):
        raise ModelError(f"{path} does not hold a JSON object", _REPAIR)
    return raw


@dataclass(frozen=True)
class _Fields:
    """Reads single values of one config.json, naming file and key where one makes no sense."""

    path: Path
    raw: Mapping[str, Any]

    def count(self, *names: str, limit: int = 1 << 24) -> int:
        name = next((name for name in names if self.raw.get(name) is not None), None)
        if name is None:
            raise ModelError(f"{self.path} does not state {names[0]}", _REPAIR)
        value = self.raw[name]
        if not _is_int(value) or not 0 < value <= limit:
            raise ModelError(f"{self.path}: {name} is {value!r}, not a count from 1 to {limit}", _REPAIR)
        return int(value)

    def length(self) -> int:
        stated = [name for name in _LENGTH_KEYS if self.raw.get(name) is not None]
        return self.count(stated[0]) if stated else DEFAULT_LENGTH

    def epsilon(self) -> float:
        value = self.raw.get("layer_norm_epsilon", 1e-5)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise ModelError(f"{self.path}: layer_norm_epsilon is {value!r}, not between 0 and 1", _REPAIR)
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.raw.get(name, False)
        if not isinstance(value, bool):
            raise ModelError(f"{self.path}: {name} is {value!r}, not true or false", _REPAIR)
        return value

    def ids(self, name: str, vocab: int) -> tuple[int, ...]:
        value = self.raw.get(name)
        found = [] if value is None else value if isinstance(value, list) else [value]
        if not all(_is_int(one) and 0 <= one < vocab for one in found):
            raise ModelError(f"{self.path}: {name} is {value!r}, not ids below {vocab}", _REPAIR)
        return tuple(found)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _eos_ids(folder: Path, fields: _Fields, vocab: int) -> tuple[int, ...]:
    """generation_config.json overrides config.json, as in transformers' ``generate``."""
    path = folder / "generation_config.json"
    if path.is_file():
        stated = _Fields(path, read_object(path)).ids("eos_token_id", vocab)
        if stated:
            return stated
    return fields.ids("eos_token_id", vocab)


def _fetched(folder: Path, key: str) -> str | None:
    """What the hub said of a fetched folder, which may hold any span's files; None of any other folder."""
    path = folder / SOURCE_FILE
    value = read_object(path).get(key) if path.is_file() else None
    return value if isinstance(value, str) and value else None


def _model_id(folder: Path, raw: Mapping[str, Any]) -> str:
    stated = raw.get("_name_or_path")
    if isinstance(stated, str) and _HUB_ID.fullmatch(stated):
        return stated
    return folder.resolve().name


def _revision(folder: Path) -> str:
    """A fingerprint of a local folder: which tensors it holds and how large, not their values.

    Reading gigabytes of weights to name them would take longer than loading them.
    """
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors.index.json"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        digest.update(_header_bytes(path))
    return digest.hexdigest()[:16]


def _header_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        return file.read(min(length, path.stat().st_size))
