from __future__ import annotations

import socket
from pathlib import Path

from core.pc.machine import free_disk, port_is_free, read_machine


def test_this_machine() -> None:
    """A PC has cores and memory, some of it free."""
    machine = read_machine()
    assert machine.cores >= 1
    assert 0 < machine.available_bytes <= machine.memory_bytes


def test_free_disk_of_a_folder_to_come(tmp_path: Path) -> None:
    """The disk of a folder that is not there yet is the one that it would lie on."""
    assert free_disk(tmp_path / "not" / "yet") > 0


def test_ports() -> None:
    """A port is free until someone listens on it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.listen()
        assert not port_is_free(port)
    assert port_is_free(port)
