"""Where a make-believe node listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture
def door_url() -> Iterator[str]:
    """A port that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
