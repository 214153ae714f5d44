"""The port at which this PC's node, or its meeting point, is found in its swarm: the same at each start where
it is free, since links that were given away name it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from core import json_file
from core.errors import DiskError

log = logging.getLogger(__name__)
NODE, MEETING_POINT = "berth.json", "meeting_point.json"


def place(host: str, file: Path) -> str:
    """The multiaddr to listen at: the port of the last time, or any."""
    port = _known(file)
    return f"/ip4/{host}/tcp/{port if _is_free(host, port) else 0}"


def remember(addresses: Sequence[str], file: Path) -> None:
    """What it listens at now. A disk that takes nothing costs links their worth, nothing else."""
    port = next((int(words[1]) for words in map(_after_tcp, addresses) if words[1].isdigit()), 0)
    if port and port != _known(file):
        try:
            json_file.write(file, {"port": port})
        except DiskError as error:
            log.warning("the port is not remembered: %s", error)


def _after_tcp(address: str) -> tuple[str, str]:
    start, _, rest = address.partition("/tcp/")
    return start, rest.partition("/")[0]


def _known(file: Path) -> int:
    try:
        port = json_file.read(file).get("port")
    except DiskError:
        return 0  # it was moved aside
    return port if isinstance(port, int) and 1024 <= port <= 65535 else 0


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
