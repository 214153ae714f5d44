"""Files of tensors read by several threads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from core.errors import ModelError
from core.model.reading import PIECE_BYTES, digest_of, read
from tests.fake_cuda import DEVICE, fake_cuda

__all__ = ["fake_cuda"]

TENSORS = {
    "long": torch.arange(3 * PIECE_BYTES // 4 + 5, dtype=torch.int32),
    "one": torch.tensor(7.0),
    "none": torch.empty(0, 4, dtype=torch.bfloat16),
    "odd": torch.arange(13, dtype=torch.uint8),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tensors") / "some.safetensors"
    save_file(TENSORS, made, metadata={"of": "a test"})
    return made


def test_all_is_as_it_was_saved(path: Path) -> None:
    """Tensors of several pieces, of one number and of none; and the hash is that of the tensors."""
    found = read(path, torch.device("cpu"))
    assert found.tensors.keys() == TENSORS.keys() and found.metadata == {"of": "a test"}
    assert all(torch.equal(found.tensors[name], one) for name, one in TENSORS.items())
    assert found.digest == digest_of(TENSORS)


def test_to_a_gpu_pieces_go_through_page_locked_memory(path: Path, fake_cuda: list[str]) -> None:
    """In order behind what still uses that memory, and all have arrived when it returns."""
    with torch.inference_mode():  # as a span is loaded
        found = read(path, DEVICE)
    assert all(torch.equal(found.tensors[name], one) for name, one in TENSORS.items())
    assert found.digest == digest_of(TENSORS)
    assert fake_cuda.count("copying waits for computing") == fake_cuda.count("on copying") == 6
    assert fake_cuda.count("waited for copying") >= 6


@pytest.mark.parametrize("left", [0, 4, 60, -1, -PIECE_BYTES])
@pytest.mark.usefixtures("fake_cuda")
def test_what_is_cut_off_is_said(path: Path, tmp_path: Path, left: int) -> None:
    """In the header or behind it, never read as something else."""
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:left])
    with pytest.raises((ModelError, ValueError)):
        read(cut, DEVICE)
    with pytest.raises(SafetensorError):
        read(cut, torch.device("cpu"))


@pytest.mark.usefixtures("fake_cuda")
def test_a_file_that_shrinks_meanwhile_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody reads it any more when that is said."""
    monkeypatch.setattr("os.preadv", lambda file, parts, at: 0)
    with pytest.raises(ValueError, match="cut off"):
        read(path, DEVICE)
