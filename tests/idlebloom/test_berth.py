from __future__ import annotations

import socket
from pathlib import Path

from core.swarm.identity import Identity
from idlebloom import berth


def test_the_same_port_where_it_is_free(tmp_path: Path) -> None:
    """The first time any, then the one that was had, and any where another program has taken that."""
    assert berth.place("127.0.0.1", tmp_path / berth.NODE) == "/ip4/127.0.0.1/tcp/0"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        berth.remember((f"/ip4/127.0.0.1/tcp/{port}/p2p/{Identity.make().peer_id}",), tmp_path / berth.NODE)
        assert berth.place("127.0.0.1", tmp_path / berth.NODE) == "/ip4/127.0.0.1/tcp/0"
    assert berth.place("127.0.0.1", tmp_path / berth.NODE) == f"/ip4/127.0.0.1/tcp/{port}"


def test_a_damaged_file_is_any_port(tmp_path: Path) -> None:
    """And so is one with no port in it."""
    for text in ("{broken", "[]", '{"port": "x"}', '{"port": 7}'):
        (tmp_path / berth.NODE).write_text(text)
        assert berth.place("127.0.0.1", tmp_path / berth.NODE).endswith("/tcp/0")
