from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import SettingError
from core.preferences import Preferences
from core.settings import Change, Settings
from desktop.autostart import NAME, Autostart


def exec_line(file: Path) -> str:
    entry = configparser.RawConfigParser()
    entry.optionxform = str  # type: ignore[assignment, method-assign]
    entry.read(file, encoding="utf-8")
    return entry["Desktop Entry"]["Exec"]


def test_only_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's setting makes the desktop's file, and takes it away again."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "autostart" / NAME

    def say(*words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "idlebloom", "settings", *words], check=True, capture_output=True
        )

    say("get", "start_at_login")
    assert not file.exists()
    say("set", "start_at_login", "on")
    assert "idlebloom" in exec_line(file) and "--data" in exec_line(file)
    say("set", "start_at_login", "off")
    assert not file.exists()


def test_odd_paths_survive(tmp_path: Path) -> None:
    """A path with blanks and signs is written as desktops read it."""
    file = tmp_path / NAME
    Autostart(file, ("/opt/my apps/100%/idle$bloom", "--data", "/x")).follow(True)
    assert exec_line(file) == '"/opt/my apps/100%%/idle\\\\$bloom" --data /x'


def test_a_folder_that_cannot_be_written_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file cannot be made the setting stays as it was, and says why."""
    monkeypatch.setattr("os.access", lambda path, mode: False)
    preferences = Preferences(tmp_path / "settings.json")
    preferences.listen(Autostart(tmp_path / "autostart" / NAME, ("idlebloom",)))
    with pytest.raises(SettingError, match="cannot write to"):
        preferences.change({"start_at_login": True})
    assert preferences.settings.start_at_login is False


def test_a_file_that_fails_after_all_is_said(tmp_path: Path) -> None:
    """What goes wrong only while it is written makes the change one for the next start."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    listener = Autostart(blocked / "autostart" / NAME, ("idlebloom",))
    assert listener.apply(Change(Settings(), Settings(start_at_login=True))) is False
