"""Windows' keyring, which keeps the node's secrets, as the tray uses it: in a thread of its own, one thing
after the other, since a keyring may think for seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from PySide6.QtCore import QObject, Signal

from core.errors import IdlebloomError
from core.secrets import Secret, Vault


class Safe(QObject):
    """``opened``: all secrets there are, once ``open`` was asked. ``noticed``: why some are not kept where
    they should be, in words, once. Both come in Qt's own thread."""

    opened = Signal(object)
    noticed = Signal(str)

    def __init__(self, vault: Vault, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._vault, self._said = vault, ""
        self._work = ThreadPoolExecutor(1, thread_name_prefix="safe")

    def open(self) -> None:
        self._work.submit(self._open)

    def keep(self, changes: Mapping[Secret, str | None]) -> None:
        """What a later ``open`` finds, in whatever order they come."""
        self._work.submit(self._keep, dict(changes))

    def close(self) -> None:
        """Returns when all that was to be kept is kept."""
        self._work.shutdown()

    def _open(self) -> None:
        found: dict[Secret, str] = {}
        try:
            for secret in Secret:
                if (value := self._vault.get(secret)) is not None:
                    found[secret] = value
        except IdlebloomError as error:
            self._say(str(error))
        if self._vault.fails:
            self._say(self._vault.notice)
        self.opened.emit(found)

    def _keep(self, changes: Mapping[Secret, str | None]) -> None:
        try:
            self._vault.follow(changes)
        except IdlebloomError as error:
            self._say(str(error))
        if self._vault.notice:
            self._say(self._vault.notice)

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            self.noticed.emit(why)
