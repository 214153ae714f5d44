from __future__ import annotations

import pytest

from core.model.catalogue import CATALOGUE, known
from core.model.config import ModelConfig
from core.serving.outlook import outlook

GB = 10**9


def config(name: str) -> ModelConfig:
    entry = known(name)
    assert entry is not None
    return entry.config


@pytest.mark.parametrize(
    ("name", "size"),
    [("bigscience/bloomz-560m", 1.1), ("bigscience/bloomz-7b1", 14.1), ("bigscience/bloom", 352.5)],
)
def test_sizes_are_the_checkpoints(name: str, size: float) -> None:
    """The size of a whole checkpoint, as its files are on the hub."""
    found = outlook(config(name), memory=10 * GB, disk=1000 * GB, gpu=True)
    assert found.size / GB == pytest.approx(size, abs=0.06)


def test_a_part_of_the_largest() -> None:
    """A gaming PC holds some blocks of BLOOM-176B, and a number of such PCs all of it."""
    found = outlook(config("bigscience/bloom"), memory=9 * GB, disk=50 * GB, gpu=True)
    assert 3 <= found.blocks <= 6 and not found.whole
    assert 12 <= found.pcs <= 20 and 15 * GB < found.fetch < 32 * GB


def test_nothing_fits() -> None:
    """Too little memory for a single layer is nothing, not an error."""
    assert outlook(config("bigscience/bloom"), memory=GB, disk=50 * GB, gpu=True).pcs == 0


def test_the_disk_counts_too() -> None:
    """A small disk holds fewer layers than the memory would."""
    assert outlook(config("bigscience/bloomz-7b1"), memory=24 * GB, disk=3 * GB, gpu=True).whole is False


def test_the_catalogue() -> None:
    """Both families in all sizes, each once; a chosen revision is known by its model."""
    assert len({one.model_id for one in CATALOGUE}) == len(CATALOGUE) == 12
    assert known("bigscience/bloom-3b@main") is known("bigscience/bloom-3b")
    assert known("someone/else") is None
