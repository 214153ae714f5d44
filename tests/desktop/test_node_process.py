"""The node under the tray, with a small program in the node's place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PySide6.QtWidgets import QApplication

from core import door
from core.door import RunningNode
from core.paths import Paths
from core.preferences import Preferences
from desktop.memory import Memory
from desktop.node_process import NodeProcess, last_line

Until = Callable[[Callable[[], object]], None]
NODE = """
import json, os, socket, subprocess, sys, time
from pathlib import Path
run = Path(sys.argv[1])
assert sys.argv[2:] == ["node", "--owned", "--json"], sys.argv
if (run / "broken").exists():
    print("idlebloom: the port is taken", file=sys.stderr)
    sys.exit(1)
print("idlebloom: a file was damaged", file=sys.stderr, flush=True)
helper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
(run / "helper").write_text(str(helper.pid))
door = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{door.getsockname()[1]}"
(run / "door.json").write_text(json.dumps({"url": url, "pid": os.getpid(), "token": "t"}))
while os.read(0, 100):
    pass
(run / "door.json").unlink()
helper.kill()
"""


@pytest.fixture
def node(qt: QApplication, paths: Paths, tmp_path: Path) -> NodeProcess:
    program = tmp_path / "node.py"
    program.write_text(NODE)
    line = [sys.executable, "-S", str(program), str(paths.runtime)]
    return NodeProcess(paths, line, pauses=(0.05, 0.1))


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_started_and_ended_in_good_order(node: NodeProcess, paths: Paths, until: Until) -> None:
    """A node is started where none runs, in a session of its own, and ends with the tray's end."""
    noticed: list[str] = []
    node.noticed.connect(noticed.append)
    node.start()
    until(lambda: node.pid)
    pid = node.pid
    assert noticed == ["a file was damaged"]
    assert node.owned and os.getsid(pid) == pid
    node.stop()
    assert ended(pid) and not paths.door_file.exists()


def test_one_that_runs_already_is_used(node: NodeProcess, paths: Paths, until: Until) -> None:
    """A node that someone else started is attached to, and runs on when the tray ends."""
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as other,
    ):
        RunningNode(f"http://127.0.0.1:{door.getsockname()[1]}", other.pid, "t").write(paths.door_file)
        node.start()
        assert node.pid == other.pid and not node.owned
        node.stop()
        assert other.poll() is None
        other.kill()


def test_killed_and_started_again(node: NodeProcess, paths: Paths, until: Until) -> None:
    """A node that dies is said and started again; what it left in its session is ended."""
    said: list[str] = []
    node.gone.connect(said.append)
    node.start()
    until(lambda: node.pid)
    first, helper = node.pid, int((paths.runtime / "helper").read_text())
    os.kill(first, signal.SIGKILL)
    until(lambda: node.pid not in (0, first))
    assert said == [""] and ended(helper)
    node.stop()


def test_one_that_cannot_start_says_why(node: NodeProcess, paths: Paths, until: Until) -> None:
    """The last words of a node that ended are handed on, and the pauses grow."""
    (paths.runtime / "broken").touch()
    said: list[str] = []
    node.gone.connect(said.append)
    node.start()
    until(lambda: len(said) == 2)
    assert said == ["the port is taken"] * 2
    (paths.runtime / "broken").unlink()
    until(lambda: node.pid)
    node.stop()


def test_the_last_words() -> None:
    """Only the last line that says something, without the program's name."""
    assert last_line("a\nidlebloom: no room\n\n") == "no room"
    assert last_line("") == ""


@pytest.mark.xvfb
def test_killing_the_tray_leaves_nothing(paths: Paths, tmp_path: Path) -> None:
    """kill -9 of the tray: node, worker and p2pd, which ran on the chosen port, all end."""
    Memory(paths.state).keep("consented")
    line = [sys.executable, "-m", "idlebloom", "--data", str(paths.state)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    Preferences(paths.settings_file).change({"donate": "always", "port": port})
    with (tmp_path / "log").open("w") as log, subprocess.Popen(line, stdout=log, stderr=log) as tray:
        end = time.monotonic() + 90
        family: list[psutil.Process] = []
        try:
            while sum(p.name() == "p2pd" for p in family) < 2:
                assert time.monotonic() < end and tray.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
                family = living(tray.pid)
            running = door.find(paths.door_file)
            assert running is not None and running.pid in {p.pid for p in family}
            assert running.url == f"http://127.0.0.1:{port}"
        finally:
            tray.kill()
        end = time.monotonic() + 20
        while left := [p for p in family if not ended(p.pid)]:
            assert time.monotonic() < end, left
            time.sleep(0.1)


def living(pid: int) -> list[psutil.Process]:
    """The children of a process, and theirs, that have a name still."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            process.name()
        except psutil.NoSuchProcess:
            continue
        found.append(process)
    return found
