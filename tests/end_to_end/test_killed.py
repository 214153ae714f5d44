"""kill -9 under a real tray, its node and its worker: nothing is left running, nothing is lost."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from core import door
from core.errors import NodeError
from core.paths import Paths
from core.preferences import Preferences
from desktop.memory import Memory
from tests.end_to_end.programs import START_SECONDS, Folder, Program, kill, until
from tests.screen import virtual_screen

SETTINGS = {"donate": "always", "device": "cpu", "monthly_gb": 77.0, "hours": ""}


@dataclass
class Desktop:
    """A tray on a display, with whatever it started."""

    place: Folder
    paths: Paths
    environment: dict[str, str]
    tray: Program

    def look(self) -> dict[str, Any]:
        return self.place.look("/api/status?once=1")

    def state(self) -> str:
        try:
            return str(self.look()["state"])
        except NodeError:
            return ""  # it is just being started

    def gives(self) -> bool:
        return self.state() == "giving"

    def node(self) -> int:
        """The process id of the node that is there now, 0 where none is."""
        found = door.find(self.paths.door_file)
        return found.pid if found is not None else 0

    def restart(self) -> None:
        self.tray = self.place.start(environment=self.environment)
        until(self.node, START_SECONDS, "a node")

    def kept(self) -> tuple[dict[str, Any], dict[str, int]]:
        """Settings and ledger, as the disk has them."""
        settings = json.loads(self.paths.settings_file.read_text())
        days = json.loads(self.paths.ledger_file.read_text())["days"].values()
        return settings, {name: sum(day[name] for day in days) for name in ("tokens", "conversations")}


@pytest.fixture
def desktop(place: Folder) -> Iterator[Desktop]:
    paths = Paths.of(place.path / "data").make()
    Memory(paths.state).keep("consented")
    Preferences(paths.settings_file).change(SETTINGS)
    with virtual_screen() as screen:
        environment = screen.environment | {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
        made = Desktop(place, paths, environment, place.start(environment=environment))
        until(made.node, START_SECONDS, "a node")
        yield made


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@pytest.mark.xvfb
def test_node_and_everything_killed(desktop: Desktop) -> None:
    """The tray starts its node again, which gives again; after all were killed at once, a new start finds
    settings, ledger and a pause as they were."""
    until(desktop.gives, START_SECONDS)
    desktop.place.answer("ask", "What is Idlebloom?", "--max-tokens", "6")
    until(lambda: desktop.paths.ledger_file.exists() and desktop.kept()[1]["tokens"] >= 5, 20)
    time.sleep(1.5)  # what the worker still tells of that answer
    before = desktop.kept()
    node, family = desktop.node(), desktop.tray.processes()[1:]
    psutil.Process(node).kill()
    until(lambda: desktop.node() not in (0, node), START_SECONDS, "another node")
    assert gone(family) and desktop.tray.process.poll() is None
    until(desktop.gives, START_SECONDS)
    assert desktop.kept() == before
    desktop.place.run("pause", "3h")
    kill(desktop.tray.processes())
    desktop.tray.wait()
    until(lambda: not desktop.tray.processes(), 10, "nothing left")
    desktop.restart()
    until(lambda: desktop.state() == "paused", START_SECONDS)
    assert desktop.look()["reason"]["until"] is not None
    assert desktop.kept() == before
    desktop.tray.send(signal.SIGTERM)
    assert desktop.tray.wait() == 0
    until(desktop.tray.is_gone, 10, "nothing left")


def test_broken_files_are_kept_aside_and_said(place: Folder) -> None:
    """Defaults are used, the old files are there to look at, and standard error has a line for each."""
    paths = Paths.of(place.path / "data").make()
    broken = (paths.state_file, paths.ledger_file, paths.settings_file)
    for file in broken:
        Path(file).write_text("{broken")
    node = place.start("node", "--port", "0")
    node.line()
    assert place.look("/api/status?once=1")["state"] == "off"
    node.send(signal.SIGTERM)
    assert node.wait() == 0
    assert node.err.count("kept as") == 3
    kept = {path.name.partition(".broken")[0] for path in paths.state.glob("*.broken-*")}
    assert kept == {file.name for file in broken}
