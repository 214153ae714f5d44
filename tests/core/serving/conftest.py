"""A small ring of real donors, for the tests of what a donor does with strangers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.core.rings import FakeRing, fake_ring, make_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("bloom"))


@pytest.fixture
async def ring(folder: Path) -> AsyncIterator[FakeRing]:
    async with fake_ring(folder, [(0, 3), (3, 8)]) as made:
        yield made
