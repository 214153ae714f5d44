from __future__ import annotations

import json
from pathlib import Path

import pytest

from core import json_file
from core.errors import DiskError, SettingError
from core.preferences import Preferences
from core.settings import Change, Settings


class Part:
    """A part of the program that hears of changes."""

    def __init__(self, live: bool = True, refuses: str = "") -> None:
        self.live, self.refuses = live, refuses
        self.heard: list[Change] = []

    def verify(self, change: Change) -> None:
        if self.refuses in change:
            raise SettingError(f"not this {self.refuses}")

    def apply(self, change: Change) -> bool:
        self.heard.append(change)
        return self.live


def test_a_change_is_applied_and_kept(tmp_path: Path) -> None:
    """A change reaches every part, and the next start finds it."""
    preferences = Preferences(tmp_path / "settings.json")
    parts = [Part(), Part()]
    for part in parts:
        preferences.listen(part)
    applied = preferences.change({"port": 8000})
    assert applied.live
    assert [part.heard for part in parts] == [[Change(Settings(), Settings(port=8000))]] * 2
    assert preferences.settings == Preferences(tmp_path / "settings.json").settings == Settings(port=8000)


def test_one_refusal_stops_all(tmp_path: Path) -> None:
    """When any part refuses, no part applies and nothing is saved."""
    preferences = Preferences(tmp_path / "settings.json")
    first, second = Part(), Part(refuses="port")
    preferences.listen(first)
    preferences.listen(second)
    with pytest.raises(SettingError, match="not this port"):
        preferences.change({"port": 8000, "donate": "always"})
    assert first.heard == []
    assert preferences.settings == Settings()
    assert not (tmp_path / "settings.json").exists()


def test_one_bad_value_stops_all(tmp_path: Path) -> None:
    """Of several values all are taken or none."""
    preferences = Preferences(tmp_path / "settings.json")
    with pytest.raises(SettingError):
        preferences.change({"donate": "always", "port": -1})
    assert preferences.settings == Settings()


def test_what_waits_for_the_next_start_is_said(tmp_path: Path) -> None:
    """A change is live only when every part says so, and all of them are told."""
    preferences = Preferences(tmp_path / "settings.json")
    late, last = Part(live=False), Part()
    preferences.listen(late)
    preferences.listen(last)
    assert not preferences.change({"port": 8000}).live
    assert last.heard


def test_no_change_bothers_nobody(tmp_path: Path) -> None:
    """Setting what is set already neither writes nor tells."""
    preferences = Preferences(tmp_path / "settings.json")
    part = Part()
    preferences.listen(part)
    assert preferences.change({"port": Settings().port}).change.names == ()
    assert part.heard == []
    assert not (tmp_path / "settings.json").exists()


@pytest.mark.parametrize("content", ["not json", "[]", '{"port": "x"}', '{"colour": "red"}'])
def test_a_broken_file(tmp_path: Path, content: str) -> None:
    """A broken settings file is kept aside, the defaults are used, and it is said."""
    file = tmp_path / "settings.json"
    file.write_text(content)
    preferences = Preferences(file)
    assert preferences.settings == Settings()
    assert "default settings are used" in preferences.notice
    [kept] = tmp_path.iterdir()
    assert kept.name.startswith("settings.json.broken-")
    assert kept.read_text() == content


def test_what_cannot_be_saved_is_not_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, no part hears of the change."""
    preferences = Preferences(tmp_path / "settings.json")
    part = Part()
    preferences.listen(part)

    def refuse(*_: object) -> None:
        raise DiskError("full")

    monkeypatch.setattr(json_file, "write", refuse)
    with pytest.raises(DiskError):
        preferences.change({"port": 8000})
    assert part.heard == []
    assert preferences.settings == Settings()


def test_the_file_holds_choices_alone(tmp_path: Path) -> None:
    """What was not chosen is not in the file, so that better defaults reach it."""
    Preferences(tmp_path / "settings.json").change({"donate": "always"})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"donate": "always"}
