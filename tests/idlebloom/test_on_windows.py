"""Commands on Windows, through a program in the place of wsl.exe."""

from __future__ import annotations

from pathlib import Path

import pytest

from desktop.wsl_troubles import WslTrouble
from idlebloom import launch
from idlebloom.on_windows import forward
from tests.desktop import windows as pcs
from tests.desktop.windows import Windows


@pytest.fixture
def pc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    made = pcs.here(tmp_path / "pc", monkeypatch)
    made.imported("import sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    return made


def test_a_command_runs_in_the_linux_part(pc: Windows, capfd: pytest.CaptureFixture[str]) -> None:
    """With its arguments as they are, odd signs included; output and exit code are its own."""
    assert forward(["ask", 'What is "a & b"?', "--greedy"]) == 7
    assert capfd.readouterr().out == "['ask', 'What is \"a & b\"?', '--greedy']\n"


def test_without_the_linux_part_it_says_so(pc: Windows) -> None:
    """Before the first start, and without WSL, in words."""
    (pc.fake / "registered").unlink()
    with pytest.raises(WslTrouble, match="start menu"):
        forward(["status"])
    pc.has("status", "absent")
    with pytest.raises(WslTrouble, match="--install"):
        forward(["status"])


def test_the_command_line_hands_it_on(
    pc: Windows, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    """On Windows every command goes there, and a trouble is one line."""
    monkeypatch.setattr(launch.sys, "platform", "win32")
    assert launch.main(["status", "--json"]) == 7
    assert capfd.readouterr().out == "['status', '--json']\n"
    pc.has("status", "absent")
    assert launch.main(["status"]) == 1
    err = capfd.readouterr().err
    assert err.startswith("idlebloom: ") and "wsl.exe --install" in err and err.count("\n") == 1
