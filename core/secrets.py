"""Secrets of this user: in the desktop's keyring, or in a file of mode 0600 where there is none.

A locked keyring may prompt and block for ever, so it is only ever called in a thread with a time
limit; after the first failure the file is used for the rest of this run. ``notice`` says so.
What is in the file is newer than what the keyring has: a removed one stays there as ``null``.
"""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from core import json_file

T = TypeVar("T")
SERVICE = "idlebloom"
LIMIT_SECONDS = 5.0
LONGEST = 1200
"""Characters of a secret: Windows keeps 2,560 bytes of UTF-16."""


class Secret(StrEnum):
    API_KEY = "api_key"
    HUB_TOKEN = "hub_token"  # noqa: S105 – its name
    SWARM = "swarm_secret"


def checked(values: object) -> dict[Secret, str | None]:
    """Secrets as JSON has them, ``None`` for one to forget. Raises ``ValueError``, without naming any."""
    if not isinstance(values, dict):
        raise ValueError("secrets must be an object")
    found: dict[Secret, str | None] = {}
    for name, value in values.items():
        good = value is None or (isinstance(value, str) and 0 < len(value) <= LONGEST)
        if name not in set(Secret) or not good or (value and not (value.isascii() and value.isprintable())):
            raise ValueError(f"a secret is one of {', '.join(Secret)}, of at most {LONGEST} letters, or null")
        found[Secret(name)] = value
    return found


class NoKeyring(Exception):
    """There is no keyring, or it does not answer; the words say which."""


class Absent(NoKeyring):
    """There is none, as on many PCs without a desktop: nothing is wrong."""


class Vault(ABC):
    """Where secrets are kept."""

    notice = ""
    """Why they are not where they should be, if so."""
    fails = False
    """Whether there is a place for them that cannot be used, and may hold some."""
    where = ""
    """The place in words, as in *it is kept …*."""

    @abstractmethod
    def get(self, secret: Secret) -> str | None: ...

    @abstractmethod
    def set(self, secret: Secret, value: str) -> None: ...

    @abstractmethod
    def remove(self, secret: Secret) -> None:
        """Forget it, wherever it is kept."""

    def api_key(self) -> str:
        """The key that programs beyond this user's own need for the APIs; made when first asked for."""
        return self.get(Secret.API_KEY) or self.new_api_key()

    def new_api_key(self) -> str:
        """Another one; the one before opens nothing any more."""
        key = f"ib-{secrets.token_urlsafe(24)}"
        self.set(Secret.API_KEY, key)
        return key

    def follow(self, changes: Mapping[Secret, str | None]) -> None:
        """Set or, for ``None``, remove."""
        for secret, value in changes.items():
            if value is None:
                self.remove(secret)
            else:
                self.set(secret, value)


class Secrets(Vault):
    """In the keyring, or in ``file``."""

    where = "in the keyring"

    def __init__(self, file: Path, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._file = file
        self._limit = limit_seconds

    def get(self, secret: Secret) -> str | None:
        found = self._ask(lambda ring: ring.get_password(SERVICE, secret))
        return json_file.read(self._file).get(secret, found)

    def set(self, secret: Secret, value: str) -> None:
        self._ask(lambda ring: ring.set_password(SERVICE, secret, value))
        self._keep(secret, {secret: value} if self.notice else {})

    def remove(self, secret: Secret) -> None:
        self._ask(lambda ring: _delete(ring, secret))
        self._keep(secret, {secret: None} if self.fails else {})

    def _keep(self, secret: Secret, kept: dict[str, str | None]) -> None:
        """What the keyring has leaves no second copy."""
        before = json_file.read(self._file)
        after = {name: value for name, value in before.items() if name != secret} | kept
        if after != before:
            json_file.write(self._file, after)

    def _ask(self, question: Callable[[Keyring], T]) -> T | None:
        if self.notice:
            return None
        try:
            return within(self._limit, lambda: question(_keyring()))
        except NoKeyring as error:
            self.fails = not isinstance(error, Absent)
            self.notice = f"{error}; secrets are kept in {self._file}, readable by you alone"
            self.where = f"in {self._file}"
            return None


class Keyring:
    """The part of ``keyring``'s backends that is used, for type checkers."""

    def get_password(self, service: str, username: str) -> str | None:
        raise NotImplementedError

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


def _delete(ring: Keyring, secret: Secret) -> None:
    if ring.get_password(SERVICE, secret) is not None:
        ring.delete_password(SERVICE, secret)


def keyring_trouble(limit_seconds: float = LIMIT_SECONDS) -> str:
    """Why the keyring cannot be used, or nothing. Asks it for a secret that need not exist."""
    try:
        within(limit_seconds, lambda: _keyring().get_password(SERVICE, Secret.API_KEY))
    except NoKeyring as error:
        return str(error)
    return ""


def _keyring() -> Keyring:
    import keyring
    from keyring.backends import fail, null

    found = keyring.get_keyring()
    if isinstance(found, fail.Keyring | null.Keyring):
        raise Absent("there is no keyring on this PC")
    return found  # type: ignore[return-value]  # a backend has these methods


def within(seconds: float, work: Callable[[], T]) -> T:
    """Do the work in a thread; whatever goes wrong, slowness included, becomes ``NoKeyring``."""
    done: list[T] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            done.append(work())
        except Exception as error:  # noqa: BLE001 – backends raise errors of their own libraries
            failed.append(error)

    # A daemon thread: one that waits for a prompt must not keep the program from ending.
    thread = threading.Thread(target=body, name="keyring", daemon=True)
    thread.start()
    thread.join(seconds)
    if done:
        return done[0]
    if failed and isinstance(failed[0], NoKeyring):
        raise failed[0]
    if failed:
        raise NoKeyring(f"the keyring failed: {failed[0]}") from failed[0]
    raise NoKeyring(f"the keyring did not answer within {seconds:g} seconds")
