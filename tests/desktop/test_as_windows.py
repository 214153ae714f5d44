"""The whole of Windows' side on a Linux without what Windows lacks: the tray, its setup, the real node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from core.door import find
from core.paths import Paths, code
from core.preferences import Preferences
from desktop.app import CONSENTED
from desktop.memory import Memory
from tests.desktop import windows as pcs

AS_WINDOWS = Path(__file__).with_name("as_windows.py")


def wait_for(so: Callable[[], object], tray: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not so():
        assert tray.poll() is None, tray.communicate()[1]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def test_the_tray_starts_the_node_in_the_linux_part(tmp_path: Path) -> None:
    """It imports the distribution, starts the node there with the settings of the first run and the secrets
    of Windows' keyring, tells it whether this PC is in use, and ends it with itself. A key that a command
    makes lies in the keyring, and in no file."""
    pc = pcs.make(tmp_path / "pc")
    data = tmp_path / "linux"
    pc.has(
        "node.py",
        "import os, sys\nos.environ['IDLEBLOOM_SECRETS'] = 'handed'\n"  # as the distribution's own launcher
        "port = ['--port', '0'] if sys.argv[1] == 'node' else []\n"
        f"os.execv({sys.executable!r}, "
        f"[{sys.executable!r}, '-m', 'idlebloom', *sys.argv[1:], '--data', {str(data)!r}, *port])\n",
    )
    side = Paths.of(tmp_path / "side").make()
    Memory(side.state).keep(CONSENTED)
    Preferences(side.settings_file).change({"idle_minutes": 7})
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")
    } | {
        "PATH": f"{pc.bin}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(code()),
        "QT_QPA_PLATFORM": "offscreen",
        "FAKE_WSL": str(pc.fake),
        "LOCALAPPDATA": str(tmp_path / "local"),
        "IDLEBLOOM_WINDOWS": str(pc.place.carried),
        "IDLEBLOOM_SETUP": json.dumps([sys.executable, "-m", "desktop.wsl_setup"]),
        "IDLEBLOOM_HOME": str(side.state),
    }
    ring = tmp_path / "keyring.json"
    ring.write_text('{"api_key": "ib-of-before"}')
    environment["FAKE_KEYRING"] = str(ring)
    command = [sys.executable, str(AS_WINDOWS)]

    def key(*more: str) -> str:
        """As a person in Windows' Terminal has it."""
        told = subprocess.run(
            [*command, "key", *more], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        return told.stdout.strip()

    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as tray:
        try:
            door_file = Paths.of(data).door_file
            wait_for(lambda: find(door_file), tray)
            door = find(door_file)
            assert door is not None
            assert door.request("/api/settings")["idle_minutes"] == 7
            assert key() == "ib-of-before"
            made = key("--new")
            assert made != "ib-of-before" and key() == made
            wait_for(lambda: json.loads(ring.read_text()) == {"api_key": made}, tray)
            known = side.state / "handed.json"
            wait_for(known.exists, tray)  # the tray has asked the node over localhost
            assert json.loads(known.read_text())["idle_minutes"] == 7
        finally:
            tray.send_signal(signal.SIGTERM)
        assert tray.wait(20) == 0
        assert "Traceback" not in tray.communicate()[1]
    assert not Path(f"/proc/{door.pid}").exists()
    written = [file for folder in (data, side.state) for file in folder.rglob("*") if file.is_file()]
    assert not [file for file in written if made.encode() in file.read_bytes()]
    asked = [line for line in pc.asked if line[0] in ("--import", "--terminate")]
    assert [line[0] for line in asked] == ["--import", "--terminate"]
