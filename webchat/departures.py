"""Noticing that a client has hung up while nothing is being sent to it.

Writing would tell, but an answer that waits for its first token writes nothing, and donors would go on
computing for nobody.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LOOK_SECONDS = 0.2


class Closable(Protocol):
    def close(self) -> None: ...


class Departures:
    """One thread that looks at all waiting connections, and closes the answer of one that has ended."""

    def __init__(self) -> None:
        self._watched: dict[socket.socket, Closable] = {}
        self._lock = threading.Lock()
        self._looking = False

    @contextmanager
    def closing(self, connection: socket.socket | None, stream: Closable) -> Iterator[None]:
        """Close ``stream`` at the end, or as soon as ``connection`` is closed by its client."""
        if connection is not None:
            self._watch(connection, stream)
        try:
            yield
        finally:
            if connection is not None:
                with self._lock:
                    self._watched.pop(connection, None)
            stream.close()

    def _watch(self, connection: socket.socket, stream: Closable) -> None:
        with self._lock:
            self._watched[connection] = stream
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="departures", daemon=True).start()

    def _look(self) -> None:
        while True:
            with self._lock:
                if not self._watched:
                    self._looking = False
                    return
                gone = [stream for one, stream in self._watched.items() if has_hung_up(one)]
            for stream in gone:
                stream.close()
            time.sleep(LOOK_SECONDS)


def has_hung_up(connection: socket.socket) -> bool:
    try:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if not poll.poll(0):
            return False
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except (OSError, ValueError):
        return True
