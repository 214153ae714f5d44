"""The systemd unit for donors without a desktop."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from idlebloom import notify

UNIT = Path(__file__).resolve().parents[2] / "installers" / "idlebloom.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("packaged", [False, True], ids=["source", "package"])
def test_systemd_takes_the_unit(build: ModuleType, tmp_path: Path, packaged: bool) -> None:
    """Its own checker finds nothing, once the program is where it would be."""
    text, program = UNIT.read_text(), "%h/.local/bin/idlebloom"
    if packaged:
        text, program = build.unit(), "/usr/bin/idlebloom"
    assert f"ExecStart={program} node\n" in text
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(program, "/bin/true"))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--user", unit],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_it_is_told_when_the_node_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Type=notify`` waits for this word; a node that systemd did not start says nothing."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.ready("http://127.0.0.1:7714")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting:
        waiting.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert notify.ready("http://127.0.0.1:7714")
        assert waiting.recv(1000).decode().splitlines()[0] == "READY=1"
    assert not notify.ready("http://127.0.0.1:7714")
    assert "Type=notify" in UNIT.read_text()
