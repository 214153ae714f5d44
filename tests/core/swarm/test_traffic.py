"""What a process's connections have carried."""

from __future__ import annotations

import os
import socket
from threading import Thread

from core.swarm.traffic import Gauge, is_available

SIZE = 2_000_000


def test_what_has_reached_the_other_end_is_told_beside_what_was_sent() -> None:
    """Each byte once, so no more than was sent; nothing where the kernel does not tell."""
    gauge = Gauge(within=True)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
        server.accept()[0] as other,
    ):
        gauge.look(os.getpid())
        before, arrived = gauge.total, gauge.arrived
        reading = Thread(target=_read, args=(other,))
        reading.start()
        one.sendall(bytes(SIZE))
        reading.join(10)
        sent = (gauge.look(os.getpid()) - before).up
        assert (SIZE if is_available() else 0) <= gauge.arrived - arrived <= sent


def _read(stream: socket.socket) -> None:
    left = SIZE
    while left:
        left -= len(stream.recv(1 << 16))
