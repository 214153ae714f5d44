from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.programs import Folder, folder


@pytest.fixture
def place() -> Iterator[Folder]:
    """Where one test's programs keep everything; they end with the test."""
    with folder() as opened:
        yield opened
