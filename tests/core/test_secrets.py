from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import keyring
import pytest
from keyring.backends import fail

from core.secrets import Keyring, Secret, Secrets, keyring_trouble


class InMemory(Keyring):
    """Not one of ``keyring``'s own backends: from those it would choose this for every later test."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


class Locked(InMemory):
    """A keyring that waits for a prompt that nobody answers."""

    def __init__(self) -> None:
        self.answered = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        self.answered.wait(30)
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        self.answered.wait(30)


class Failing(InMemory):
    def get_password(self, service: str, username: str) -> str | None:
        raise RuntimeError("the bus is gone")


def use(monkeypatch: pytest.MonkeyPatch, backend: object) -> None:
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)


def test_the_keyring_holds_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a keyring, no secret touches the disk."""
    use(monkeypatch, InMemory())
    key = Secrets(tmp_path / "secrets.json").api_key()
    assert len(key) > 20
    assert Secrets(tmp_path / "secrets.json").api_key() == key
    assert list(tmp_path.iterdir()) == []


def test_a_private_file_without_a_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a keyring, secrets are in a file for this user alone, and that is said."""
    use(monkeypatch, fail.Keyring())
    secrets = Secrets(tmp_path / "new" / "secrets.json")
    key = secrets.api_key()
    file = tmp_path / "new" / "secrets.json"
    assert json.loads(file.read_text()) == {"api_key": key}
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert f"secrets are kept in {file}" in secrets.notice and not secrets.fails
    assert Secrets(file).api_key() == key


def test_a_locked_keyring_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that does not answer is given up once, and then not asked again."""
    locked = Locked()
    use(monkeypatch, locked)
    secrets = Secrets(tmp_path / "secrets.json", limit_seconds=0.2)
    began = time.monotonic()
    assert secrets.api_key() == secrets.api_key()
    assert time.monotonic() - began < 5
    assert "did not answer within 0.2 seconds" in secrets.notice and secrets.fails
    locked.answered.set()


def test_a_failing_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that fails is said with its own words, and the file is used."""
    use(monkeypatch, Failing())
    secrets = Secrets(tmp_path / "secrets.json")
    assert secrets.get(Secret.API_KEY) is None
    assert "the bus is gone" in secrets.notice
    assert keyring_trouble() == "the keyring failed: the bus is gone"


def test_a_file_from_before_the_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the file is found when a keyring comes later, and moves there when it is set."""
    (tmp_path / "secrets.json").write_text('{"api_key": "old"}')
    ring = InMemory()
    use(monkeypatch, ring)
    secrets = Secrets(tmp_path / "secrets.json")
    assert secrets.api_key() == "old"
    secrets.set(Secret.API_KEY, "new")
    assert ring.kept == {("idlebloom", "api_key"): "new"}
    assert json.loads((tmp_path / "secrets.json").read_text()) == {}


class Unlocked(InMemory):
    """One that answers or not, as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise RuntimeError("it is locked")
        return super().get_password(service, username)

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise RuntimeError("it is locked")
        super().set_password(service, username, password)

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


def test_what_was_changed_while_it_was_locked_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring that answers again still has the old secrets: what was set or removed meanwhile stays so."""
    ring = Unlocked()
    use(monkeypatch, ring)
    file = tmp_path / "secrets.json"
    Secrets(file).set(Secret.API_KEY, "old")
    Secrets(file).set(Secret.SWARM, "of-friends")
    ring.locked = True
    meanwhile = Secrets(file)
    meanwhile.set(Secret.API_KEY, "new")
    meanwhile.remove(Secret.SWARM)
    ring.locked = False
    after = Secrets(file)
    assert (after.get(Secret.API_KEY), after.get(Secret.SWARM)) == ("new", None)
    after.set(Secret.API_KEY, "newest")
    after.remove(Secret.SWARM)
    assert Secrets(file).get(Secret.API_KEY) == "newest"
    assert json.loads(file.read_text()) == {} and ("idlebloom", "swarm_secret") not in ring.kept
