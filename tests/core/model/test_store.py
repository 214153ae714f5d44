"""Layers kept on the disk, and the hash that they are checked by."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from core.model import store as module
from core.model.store import Store

LAYER = {"a": torch.arange(5 << 18, dtype=torch.int32), "b": torch.ones(3, dtype=torch.bfloat16)}


def same(found: dict[str, torch.Tensor] | None) -> bool:
    return found is not None and all(torch.equal(found[name], LAYER[name]) for name in LAYER)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """In pieces smaller than a tensor, and of another type."""
    store = Store(tmp_path)
    store.write("h.0", LAYER)
    assert same(store.read("h.0"))


def test_a_changed_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    """In the first piece, in a later one, in the last tensor: the file is made anew."""
    store = Store(tmp_path)
    for place in (-1, -7, -(5 << 20) + 4096):
        store.write("h.0", LAYER)
        data = bytearray(store.path("h.0").read_bytes())
        data[place] ^= 1
        store.path("h.0").write_bytes(data)
        assert store.read("h.0") is None and not store.path("h.0").exists()


def test_files_hashed_as_before_are_still_good(tmp_path: Path) -> None:
    """And checked."""
    store, path = Store(tmp_path), Store(tmp_path).path("h.0")
    save_file(LAYER, path, metadata={"sha256": module._whole(LAYER)})
    assert same(store.read("h.0"))
    save_file(LAYER, path, metadata={"sha256": "0" * 64})
    assert store.read("h.0") is None
    save_file(LAYER, path)
    assert store.read("h.0") is None
