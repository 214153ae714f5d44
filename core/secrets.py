"""Secrets of this user: in the desktop's keyring, or in a file of mode 0600 where there is none.

A locked keyring may prompt and block for ever, so it is only ever called in a thread with a time
limit; after the first failure the file is used for the rest of this run. ``notice`` says so.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from core import json_file

T = TypeVar("T")
SERVICE = "idlebloom"
LIMIT_SECONDS = 5.0


class Secret(StrEnum):
    API_KEY = "api_key"
    HUB_TOKEN = "hub_token"  # noqa: S105 – its name
    SWARM = "swarm_secret"


class NoKeyring(Exception):
    """There is no keyring, or it does not answer; the words say which."""


class Absent(NoKeyring):
    """There is none, as on many PCs without a desktop: nothing is wrong."""


class Secrets:
    def __init__(self, file: Path, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._file = file
        self._limit = limit_seconds
        self.notice = ""
        """Why secrets are kept in a file; empty while the keyring works or was not asked yet."""
        self.fails = False
        """Whether there is a keyring, which may hold secrets, but it cannot be used."""

    def get(self, secret: Secret) -> str | None:
        found = self._ask(lambda ring: ring.get_password(SERVICE, secret))
        return found or json_file.read(self._file).get(secret)

    def set(self, secret: Secret, value: str) -> None:
        self._ask(lambda ring: ring.set_password(SERVICE, secret, value))
        kept = {name: text for name, text in json_file.read(self._file).items() if name != secret}
        if self.notice:
            json_file.write(self._file, kept | {secret: value})
        elif self._file.exists():
            json_file.write(self._file, kept)  # the keyring has it now; leave no second copy

    def remove(self, secret: Secret) -> None:
        """Forget it, wherever it is kept."""
        if self.get(secret) is not None:
            self._ask(lambda ring: _delete(ring, secret))
        kept = {name: text for name, text in json_file.read(self._file).items() if name != secret}
        if self._file.exists():
            json_file.write(self._file, kept)

    def api_key(self) -> str:
        """The key that programs beyond this user's own need for the APIs; made when first asked for."""
        return self.get(Secret.API_KEY) or self.new_api_key()

    def new_api_key(self) -> str:
        """Another one; the one before opens nothing any more."""
        key = f"ib-{secrets.token_urlsafe(24)}"
        self.set(Secret.API_KEY, key)
        return key

    def _ask(self, question: Callable[[Keyring], T]) -> T | None:
        if self.notice:
            return None
        try:
            return within(self._limit, lambda: question(_keyring()))
        except NoKeyring as error:
            self.fails = not isinstance(error, Absent)
            self.notice = f"{error}; secrets are kept in {self._file}, readable by you alone"
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
