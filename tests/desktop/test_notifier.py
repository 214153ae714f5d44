"""The StatusNotifier way of KDE and of GNOME's extension, over a session bus of our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.paths import Paths, code
from desktop.memory import Memory
from tests.desktop.door_server import FakeDoor

WATCHER = Path(__file__).with_name("watcher.py")


@pytest.mark.xvfb
def test_a_host_on_the_bus_comes_late_goes_and_returns(door: FakeDoor, paths: Paths, tmp_path: Path) -> None:
    """The icon registers with a watcher that starts after it, shows its line and its menu, and obeys; when
    that one has gone and come back, it registers again."""
    if shutil.which("dbus-run-session") is None:
        pytest.skip("no dbus-run-session")
    memory = Memory(paths.state)
    memory.keep("consented")
    memory.keep("joined")  # a notification stands in the tooltip while there is no one to show it
    door.running(os.getpid()).write(paths.door_file)
    said = tmp_path / "said"
    line = (
        f"'{sys.executable}' -m idlebloom --data '{paths.state}' & tray=$!; "
        f"'{sys.executable}' '{WATCHER}' 1.5 > '{said}'; code=$?; wait $tray; exit $code"
    )
    environment = {k: v for k, v in os.environ.items() if k != "DBUS_SESSION_BUS_ADDRESS"}
    environment["PYTHONPATH"] = str(code())
    environment["LANGUAGE"] = "en"
    done = subprocess.run(
        ["dbus-run-session", "--", "bash", "-c", line],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(said.read_text())
    assert {"Open chat", "Give now", "Pause", "Until tomorrow", "Settings…", "Quit"} <= set(seen["entries"])
    assert any("Giving" in part for part in seen["tooltip"]), seen
    assert seen["icon"]
    assert door.donated == [{"action": "pause", "for": "3h"}]
