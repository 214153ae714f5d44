"""One reading of the node's status for all who watch: however many pages are open, one thread asks, and
each status is written out once."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator

from core.terms import Status
from webchat.reader import Reader
from webchat.snapshots import status_shape

log = logging.getLogger(__name__)
Listener = Callable[[str], None]
"""Given each status as the message that pages hear. It never waits."""
AGAIN_SECONDS = 1.0
"""After a failed reading."""


class Bulletin:
    """The newest status, numbered. Reading begins with the first who asks."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._changed = threading.Condition()
        self._number, self._status = 0, None
        self._told = ""
        self._listeners: list[Listener] = []
        self._reading = False

    _status: Status | None

    def after(self, number: int, timeout: float) -> tuple[int, Status | None]:
        """The newest status and its number; ``None`` when nothing newer than ``number`` came in time."""
        with self._changed:
            self._begin()
            self._changed.wait_for(lambda: self._number > number, timeout)
            return self._number, self._status if self._number > number else None

    def follow(self, heartbeat: float) -> Iterator[Status | None]:
        """Every newest status, and ``None`` whenever ``heartbeat`` seconds pass without one."""
        number = 0
        while True:
            number, status = self.after(number, heartbeat)
            yield status

    def join(self, listener: Listener) -> None:
        """It hears every status from now on, first the newest."""
        with self._changed:
            self._begin()
            self._listeners.append(listener)
            if self._told:
                listener(self._told)

    def leave(self, listener: Listener) -> None:
        with self._changed:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def _begin(self) -> None:
        if not self._reading:
            self._reading = True
            threading.Thread(target=self._read, name="status bulletin", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                for status in self._reader.watch():
                    self._tell(status)
            except Exception:
                log.exception("reading the node's status failed")
            with self._changed:
                if not self._listeners:
                    self._reading = False  # the next who asks tries again
                    return
            time.sleep(AGAIN_SECONDS)

    def _tell(self, status: Status) -> None:
        told = json.dumps({"type": "status", "status": status_shape(status)})
        with self._changed:
            self._number, self._status, self._told = self._number + 1, status, told
            self._changed.notify_all()
            for listener in self._listeners:
                listener(told)
