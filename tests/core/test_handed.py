"""Secrets that Windows keeps: in a node's memory, and for other programs at its door."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pytest

from core.errors import NodeError
from core.handed import HANDED, VARIABLE, Held, OfNode, secrets_of
from core.paths import Paths
from core.secrets import Secret, Secrets
from core.swarm.identity import Identity
from core.swarm.invite import Invite
from core.swarm.secret import Secret as SwarmSecret
from idlebloom import launch

NOBODY = f"/ip4/127.0.0.1/tcp/1/p2p/{Identity.make().peer_id}"
LINK = Invite((NOBODY,), "bundled", SwarmSecret.make()).link


class Told(list[Mapping[Secret, str | None]]):
    """What was told to whoever keeps them."""


@pytest.fixture
def told() -> Told:
    return Told()


def test_what_changes_is_told(told: Told) -> None:
    """A secret that is set or removed is known at once and told once; what stays the same is not."""
    held = Held({Secret.SWARM: "of-friends", Secret.HUB_TOKEN: None}, told.append)
    assert (held.get(Secret.SWARM), held.get(Secret.HUB_TOKEN)) == ("of-friends", None)
    held.set(Secret.SWARM, "of-friends")
    held.remove(Secret.HUB_TOKEN)
    assert told == []
    held.remove(Secret.SWARM)
    key = held.api_key()
    assert held.api_key() == key and held.get(Secret.SWARM) is None
    assert told == [{Secret.SWARM: None}, {Secret.API_KEY: key}]


def test_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the keyring or a file, but for Windows' Linux, where nothing secret may be written."""
    paths = Paths.of(tmp_path)
    assert isinstance(secrets_of(paths), Secrets)
    monkeypatch.setenv(VARIABLE, HANDED)
    assert isinstance(secrets_of(paths), OfNode)


@pytest.mark.parametrize(
    "command",
    [["key"], ["join", LINK], ["invite", "--meet", NOBODY], ["bootstrap"], ["node"], ["model", "token"]],
)
def test_without_a_node_nothing_is_written(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever needs a secret there says what to do, and leaves no file with one."""
    monkeypatch.setenv(VARIABLE, HANDED)
    monkeypatch.setattr("sys.stdin", io.StringIO("hf_x\n"))
    assert launch.main([*command, "--data", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "Start Idlebloom from the start menu" in said.err and said.out == ""
    assert not list(tmp_path.rglob("secrets.json"))


def test_an_unreadable_answer_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What no node of ours says is not taken for a secret."""

    class Odd:
        def request(self, *_: object, **__: object) -> object:
            return {"api_key": 7}

    monkeypatch.setattr("core.handed.find", lambda file: Odd())
    with pytest.raises(NodeError, match="cannot be read"):
        OfNode(Paths.of(tmp_path)).get(Secret.API_KEY)
