from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import ModelError
from core.model.config import read_config, ref

GOOD: dict[str, Any] = {
    "model_type": "bloom",
    "hidden_size": 48,
    "n_head": 6,
    "n_layer": 3,
    "vocab_size": 300,
    "eos_token_id": 2,
    "bos_token_id": 1,
}


def folder_with(tmp_path: Path, **changes: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(GOOD | changes))
    return tmp_path


def test_reads_the_shape(tmp_path: Path) -> None:
    """A plain config.json gives the shape, its ids and the length that BLOOM was trained on."""
    config = read_config(folder_with(tmp_path))
    assert (config.hidden, config.heads, config.blocks, config.vocab) == (48, 6, 3, 300)
    assert (config.layers, config.head_dim, config.max_length) == (5, 8, 2048)
    assert (config.bos_id, config.eos_ids) == (1, (2,))
    assert ref(config).layers == 5


@pytest.mark.parametrize("key", ["seq_length", "n_positions", "max_position_embeddings"])
def test_reads_a_stated_length(tmp_path: Path, key: str) -> None:
    """Any of the three names for the length is understood."""
    assert read_config(folder_with(tmp_path, **{key: 512})).max_length == 512


def test_accepts_the_older_names(tmp_path: Path) -> None:
    """``n_embed``, ``num_attention_heads`` and ``num_hidden_layers`` name the same values."""
    old = {"n_embed": 48, "num_attention_heads": 6, "num_hidden_layers": 3, "vocab_size": 300}
    (tmp_path / "config.json").write_text(json.dumps(old | {"model_type": "bloom"}))
    config = read_config(tmp_path)
    assert (config.hidden, config.heads, config.blocks, config.eos_ids) == (48, 6, 3, ())


def test_generation_config_overrides_the_end_ids(tmp_path: Path) -> None:
    """Where generation_config.json names end ids, they count, as for transformers."""
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    assert read_config(folder_with(tmp_path)).eos_ids == (2, 7)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [("bigscience/bloomz-560m", "bigscience/bloomz-560m"), ("/tmp/x/y", None), ("", None)],
)
def test_model_id_is_the_hub_id_or_the_folder_name(tmp_path: Path, stated: str, expected: str | None) -> None:
    """Only what looks like a hub id is taken for one."""
    config = read_config(folder_with(tmp_path, _name_or_path=stated))
    assert config.model_id == (expected or tmp_path.name)


def test_revision_changes_with_the_weights(tmp_path: Path) -> None:
    """The revision is stable, and another once a safetensors file has another header or size."""
    first = read_config(folder_with(tmp_path)).revision
    assert read_config(tmp_path).revision == first
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    second = read_config(tmp_path).revision
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}0")
    assert len({first, second, read_config(tmp_path).revision}) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama"}, "not BLOOM"),
        ({"hidden_size": None}, "does not state hidden_size"),
        ({"hidden_size": "48"}, "not a count"),
        ({"hidden_size": True}, "not a count"),
        ({"n_layer": 0}, "not a count"),
        ({"n_head": 7}, "not a multiple"),
        ({"vocab_size": -1}, "not a count"),
        ({"layer_norm_epsilon": 2}, "not between 0 and 1"),
        ({"layer_norm_epsilon": "tiny"}, "not between 0 and 1"),
        ({"apply_residual_connection_post_layernorm": 1}, "not true or false"),
        ({"eos_token_id": 300}, "not ids below 300"),
        ({"eos_token_id": [2, "x"]}, "not ids below 300"),
        ({"seq_length": 0}, "not a count"),
    ],
)
def test_refuses_nonsense(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Each value that makes no sense is named in one line with advice."""
    with pytest.raises(ModelError, match=words) as caught:
        read_config(folder_with(tmp_path, **changes))
    assert caught.value.advice
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"\xff\xfe"])
def test_refuses_an_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty, non-JSON or non-object config.json is said."""
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_config(tmp_path)


def test_refuses_a_missing_folder(tmp_path: Path) -> None:
    """A folder that does not exist is named."""
    with pytest.raises(ModelError, match="no model folder"):
        read_config(tmp_path / "nowhere")


def test_needs_no_torch() -> None:
    """A client reads the configuration and the text without importing torch or transformers."""
    code = "import sys, core.model.text; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
