"""The node in Windows' Linux, started and followed through a program in the place of wsl.exe."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from PySide6.QtWidgets import QApplication

from core.door import RunningNode
from core.paths import Paths
from core.preferences import Preferences
from core.secrets import Keyring, Secret, Secrets
from desktop import wsl_node
from desktop.wsl import Wsl
from desktop.wsl_node import WslNode
from tests.desktop import windows as pcs
from tests.desktop.windows import Windows

Until = Callable[[Callable[[], object]], None]
NODE = """
import json, os, socket, sys, time
from pathlib import Path
assert sys.argv[1:] == ["node", "--owned", "--handover", "--json"], sys.argv
home = Path(os.environ["FAKE_WSL"])
handed = sys.stdin.readline()
with (home / "handed").open("a") as log:
    log.write(handed)
if (home / "broken").exists():
    print("idlebloom: " + (home / "broken").read_text(), file=sys.stderr)
    sys.exit(1)
with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
    if (home / "closed").exists():
        server.close()
    print(json.dumps({"url": f"http://127.0.0.1:{port}", "pid": 1}), flush=True)
    (home / "pid").write_text(str(os.getpid()))
    if (home / "changes").exists():
        print((home / "changes").read_text(), flush=True)
    while os.read(0, 100):
        pass
(home / "ended").touch()
"""


@pytest.fixture
def pc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    made = pcs.here(tmp_path / "pc", monkeypatch)
    made.imported(NODE)
    return made


class Ring(Keyring):
    """Windows' keyring; not one of ``keyring``'s own backends, which it would choose for every later test."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.locked = threading.Event()
        """Set: it answers nobody."""

    def _answer(self) -> None:
        if self.locked.is_set():
            time.sleep(3)

    def get_password(self, service: str, username: str) -> str | None:
        self._answer()
        return self.kept.get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        self._answer()
        self.kept[username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[username]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    made = Ring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: made)
    return made


class Heard:
    def __init__(self, node: WslNode) -> None:
        self.noticed: list[str] = []
        node.noticed.connect(self.noticed.append)
        self.found: list[RunningNode] = []
        self.gone: list[str] = []
        self.at_login: list[bool] = []
        node.found.connect(self.found.append)
        node.gone.connect(self.gone.append)


@pytest.fixture
def make(qt: QApplication, paths: Paths, pc: Windows, ring: Ring) -> Iterator[Make]:
    nodes: list[WslNode] = []

    def new() -> tuple[WslNode, Heard]:
        at_login: list[bool] = []
        node = WslNode(
            paths,
            Wsl(),
            pauses=(0.05, 0.1),
            reach_seconds=0.2,
            at_login=at_login.append,
            starts_at_login=(pc.fake / "at_login").exists,
            vault=Secrets(paths.secrets_file, limit_seconds=1.0),
        )
        nodes.append(node)
        heard = Heard(node)
        heard.at_login = at_login
        return node, heard

    yield new
    for node in nodes:
        node.stop()


Make = Callable[[], tuple[WslNode, Heard]]


def handed(pc: Windows) -> list[dict[str, object]]:
    return [json.loads(line) for line in (pc.fake / "handed").read_text().splitlines()]


def test_token_by_stdin_and_port_by_stdout(make: Make, pc: Windows, until: Until) -> None:
    """The node gets a token of ours, tells its address, and is found once Windows lets its port through; with
    the tray it ends, and the distribution's memory is given back."""
    node, heard = make()
    node.start()
    until(lambda: heard.found)
    (found,) = heard.found
    assert found.url.startswith("http://127.0.0.1:") and found.token == handed(pc)[0]["token"]
    assert len(found.token) >= 32 and node.owned
    node.stop()
    assert (pc.fake / "ended").exists()
    assert pc.asked[-1] == ["--terminate", "Idlebloom"]
    assert all(
        found.token not in word for line in pc.asked for word in line
    )  # every process shows its arguments


def test_one_that_dies_comes_again(make: Make, pc: Windows, until: Until) -> None:
    """After each death a new node with a new token, after a pause that grows."""
    node, heard = make()
    node.start()
    until(lambda: heard.found)
    os.kill(int((pc.fake / "pid").read_text()), 9)
    until(lambda: len(heard.found) == 2)
    assert heard.gone == [""]
    assert heard.found[0].token != heard.found[1].token


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("the port is taken", "the port is taken"),
        ("cannot write: no space left on device", "The disk is full"),
    ],
)
def test_it_says_why_it_ended(make: Make, pc: Windows, until: Until, said: str, words: str) -> None:
    """A node's last words are handed on, a full disk with what to do."""
    pc.has("broken", said)
    node, heard = make()
    node.start()
    until(lambda: heard.gone)
    assert words in heard.gone[0]
    (pc.fake / "broken").unlink()
    until(lambda: heard.found)


def test_wsls_own_trouble_is_said(make: Make, pc: Windows, until: Until) -> None:
    """What wsl.exe prints in UTF-16 in the node's place becomes words with a command."""
    pc.has("inside", "virtual")
    node, heard = make()
    node.start()
    until(lambda: heard.gone)
    assert "virtualisation is switched off" in heard.gone[0]


def test_a_port_that_windows_keeps_shut(make: Make, pc: Windows, until: Until) -> None:
    """A node that cannot be reached is no node: said with the setting that shuts it."""
    pc.has("closed")
    node, heard = make()
    node.start()
    until(lambda: heard.gone)
    assert "localhostForwarding=false" in heard.gone[0] and heard.found == []


def test_the_clock_is_set(make: Make, pc: Windows, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each start, and again when the PC has slept, by root."""

    def settings() -> int:
        return sum("-s" in line and "root" in line for line in pc.asked)

    node, heard = make()
    node.start()
    until(lambda: heard.found and settings() == 1)
    node.tick()
    now = time.time()
    monkeypatch.setattr(wsl_node.time, "time", lambda: now + 5000)
    until(lambda: node._clock.state() is node._clock.ProcessState.NotRunning)
    node.tick()
    until(lambda: settings() == 2)
    assert float((pc.fake / "clock").read_text()) == pytest.approx(now + 5000, abs=2)


def test_settings_travel_once(make: Make, pc: Windows, paths: Paths, until: Until) -> None:
    """What was set before there was a node goes to the first one; what the node then has is kept here, does
    not travel back over it, and the start at login follows it."""
    Preferences(paths.settings_file).change({"donate": "always", "language": "de"})
    node, heard = make()
    node.start()
    until(lambda: heard.found)
    assert handed(pc)[0]["settings"] == {"donate": "always", "language": "de"}
    node.keep({"donate": "off", "language": "de", "start_at_login": True, "data_dir": "/var/models"})
    node.restart()
    until(lambda: len(heard.found) == 2)
    assert handed(pc)[1]["settings"] == {}
    kept = Preferences(paths.settings_file).settings
    assert (kept.donate.value, kept.data_dir) == ("off", "")
    assert heard.at_login == [True]
    node.keep({"no such": 1})
    assert Preferences(paths.settings_file).settings.start_at_login


def test_what_the_setup_was_told_stays(make: Make, pc: Windows, paths: Paths, until: Until) -> None:
    """The start at login that the setup wrote is the first node's setting, not undone by its default; a
    folder of Windows' side is none of Linux'."""
    pc.has("at_login")
    Preferences(paths.settings_file).change({"data_dir": "/mine"})
    node, heard = make()
    node.start()
    until(lambda: heard.found)
    assert handed(pc)[0]["settings"] == {"start_at_login": True}


def test_secrets_come_from_windows_keyring(make: Make, pc: Windows, ring: Ring, until: Until) -> None:
    """They are handed to the node by its input; what is changed there goes into the keyring, and the next
    node has it. No argument shows one, and none lies in a file."""
    ring.kept = {"api_key": "ib-one", "swarm_secret": "of-friends", "someone": "else's"}
    pc.has("changes", '{"secrets": {"api_key": "ib-two", "swarm_secret": null, "hub_token": "hf_x"}}')
    node, heard = make()
    node.start()
    until(lambda: heard.found)
    assert handed(pc)[0]["secrets"] == {"api_key": "ib-one", "swarm_secret": "of-friends"}
    until(lambda: ring.kept == {"api_key": "ib-two", "hub_token": "hf_x", "someone": "else's"})
    node.restart()
    until(lambda: len(heard.found) == 2)
    assert handed(pc)[1]["secrets"] == {"api_key": "ib-two", "hub_token": "hf_x"}
    assert heard.noticed == []
    node.stop()
    assert "ib-" not in "".join(word for line in pc.asked for word in line)
    files = [path for path in pc.folder.parent.rglob("*") if path.is_file() and path.name != "handed"]
    assert not any(b"ib-two" in path.read_bytes() for path in files if path.name != "changes")


def test_odd_words_about_secrets_change_nothing(make: Make, pc: Windows, ring: Ring, until: Until) -> None:
    """Of another name, too long, or no text: the keyring is left as it is, and the node is followed on."""
    lines = ['{"secrets": {"root": "x"}}', '{"secrets": {"api_key": 1}}', '{"secrets": []}', "[]"]
    pc.has("changes", "\n".join([*lines, json.dumps({"secrets": {"hub_token": "x" * 5000}})]))
    node, heard = make()
    node.start()
    until(lambda: heard.found)
    node.stop()
    assert ring.kept == {} and heard.gone == []


def test_a_keyring_that_does_not_answer(
    make: Make, pc: Windows, ring: Ring, paths: Paths, until: Until
) -> None:
    """The node starts without what is in it, its owner is told once, and what is changed is kept in a file
    until the keyring answers again: the file's is the newer."""
    ring.kept = {"api_key": "ib-one"}
    ring.locked.set()
    pc.has("changes", '{"secrets": {"api_key": "ib-two"}}')
    node, heard = make()
    node.start()
    until(lambda: heard.found)
    assert handed(pc)[0]["secrets"] == {}
    node.stop()
    assert len(heard.noticed) == 1 and "did not answer" in heard.noticed[0]
    assert json.loads(paths.secrets_file.read_text()) == {"api_key": "ib-two"}
    ring.locked.clear()
    (pc.fake / "changes").unlink()
    again, heard = make()
    again.start()
    until(lambda: heard.found)
    assert handed(pc)[1]["secrets"] == {"api_key": "ib-two"}
    assert Secrets(paths.secrets_file).get(Secret.API_KEY) == "ib-two"


def test_what_was_told_last_is_kept_before_the_end(
    make: Make, pc: Windows, ring: Ring, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tray that is quit ends the node and waits until the keyring has what the node had said."""
    slow = threading.Event()
    monkeypatch.setattr(ring, "_answer", lambda: slow.wait(0.05) and None)
    pc.has("changes", '{"secrets": {"hub_token": "hf_last"}}')
    node, heard = make()
    node.start()
    until(lambda: heard.found)
    node.stop()
    assert ring.kept == {"hub_token": "hf_last"}


def test_quit_while_the_keyring_thinks(make: Make, pc: Windows, ring: Ring, qt: QApplication) -> None:
    """No node is started any more."""
    ring.locked.set()
    node, _heard = make()
    node.start()
    node.stop()
    qt.processEvents()
    assert not node.owned and not (pc.fake / "handed").exists()
