"""The node in Windows' Linux, started and followed through a program in the place of wsl.exe."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from core.door import RunningNode
from core.paths import Paths
from core.preferences import Preferences
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
    while os.read(0, 100):
        pass
(home / "ended").touch()
"""


@pytest.fixture
def pc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    made = pcs.make(tmp_path / "pc")
    monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_WSL", str(made.fake))
    made.place.home.mkdir()
    made.place.disk.write_text('{"version": "0.1.0", "models": {}}')
    made.has("disk", str(made.place.disk))
    made.has("registered", "Idlebloom")
    made.has("node.py", NODE)
    return made


class Heard:
    def __init__(self, node: WslNode) -> None:
        self.found: list[RunningNode] = []
        self.gone: list[str] = []
        self.at_login: list[bool] = []
        node.found.connect(self.found.append)
        node.gone.connect(self.gone.append)


@pytest.fixture
def make(qt: QApplication, paths: Paths, pc: Windows) -> Iterator[Callable[[], tuple[WslNode, Heard]]]:
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
