"""One reading of the node's status for all who watch: however many pages are open, one thread asks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from core.terms import Status
from webchat.reader import Reader

log = logging.getLogger(__name__)


class Bulletin:
    """The newest status, numbered. Reading begins with the first who asks."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._changed = threading.Condition()
        self._number, self._status = 0, None
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

    def _begin(self) -> None:
        if not self._reading:
            self._reading = True
            threading.Thread(target=self._read, name="status bulletin", daemon=True).start()

    def _read(self) -> None:
        try:
            for status in self._reader.watch():
                with self._changed:
                    self._number, self._status = self._number + 1, status
                    self._changed.notify_all()
        except Exception:  # the next who asks tries again
            log.exception("reading the node's status failed")
        finally:
            with self._changed:
                self._reading = False
