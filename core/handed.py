"""Secrets on Windows, where the node runs in a Linux of its own and Windows' keyring keeps them.

The tray reads the keyring and hands the secrets to the node, which holds them in memory alone (``Held``).
Other programs of Idlebloom there ask the node at its door (``OfNode``); what they change, it tells the tray.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from core.door import find
from core.errors import NodeError
from core.paths import Paths
from core.secrets import Secret, Secrets, Vault, checked

VARIABLE, HANDED = "IDLEBLOOM_SECRETS", "handed"
"""Set to this where nothing secret may be written: by the distribution's own /usr/bin/idlebloom."""
PATH = "/api/secrets"
WHERE = "in Windows' keyring"


def secrets_of(paths: Paths) -> Vault:
    """This user's secrets, for a program that was not given them."""
    if os.environ.get(VARIABLE) == HANDED:
        return OfNode(paths)
    return Secrets(paths.secrets_file)


class Held(Vault):
    """In this process alone. ``tell`` has whoever gave them keep what is changed; any thread may call."""

    where = WHERE

    def __init__(
        self,
        known: Mapping[Secret, str | None],
        tell: Callable[[Mapping[Secret, str | None]], None],
    ) -> None:
        self._known = {secret: value for secret, value in known.items() if value is not None}
        self._tell = tell
        self._turn = threading.Lock()

    def get(self, secret: Secret) -> str | None:
        return self._known.get(secret)

    def set(self, secret: Secret, value: str) -> None:
        self.follow({secret: value})

    def remove(self, secret: Secret) -> None:
        self.follow({secret: None})

    def follow(self, changes: Mapping[Secret, str | None]) -> None:
        with self._turn:
            new = {secret: value for secret, value in changes.items() if self.get(secret) != value}
            for secret, value in new.items():
                if value is None:
                    del self._known[secret]
                else:
                    self._known[secret] = value
            if new:
                self._tell(new)


class OfNode(Vault):
    """The running node's. Raises ``NodeError`` where none runs."""

    where = WHERE

    def __init__(self, paths: Paths) -> None:
        self._door_file = paths.door_file

    def get(self, secret: Secret) -> str | None:
        try:
            return checked(self._ask(None)).get(secret)
        except ValueError as error:
            raise NodeError("the node's answer about secrets cannot be read") from error

    def set(self, secret: Secret, value: str) -> None:
        self._ask({secret: value})

    def remove(self, secret: Secret) -> None:
        self._ask({secret: None})

    def _ask(self, changes: Mapping[Secret, str | None] | None) -> object:
        node = find(self._door_file)
        if node is None:
            raise NodeError(
                "Windows keeps this PC's secrets, and no node runs that was given them",
                "Start Idlebloom from the start menu first.",
            )
        if changes is None:
            return node.request(PATH)
        return node.request(PATH, {str(name): value for name, value in changes.items()}, method="PUT")
