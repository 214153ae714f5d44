from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.errors import DiskError
from core.paths import Paths, bundled_model, code


def test_one_folder_holds_all(tmp_path: Path) -> None:
    """With a data folder, everything lies in it."""
    paths = Paths.of(tmp_path / "all").make()
    for place in (paths.settings_file, paths.secrets_file, paths.state_file, paths.door_file, paths.cache):
        assert place.is_relative_to(tmp_path / "all")


def test_the_argument_wins_over_the_variable(tmp_path: Path, home: Path) -> None:
    """IDLEBLOOM_HOME is used, unless a folder is given."""
    assert Paths.of().settings == home
    assert Paths.of(tmp_path).settings == tmp_path


def test_the_desktops_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a data folder, XDG's folders are used, and a private runtime folder."""
    monkeypatch.delenv("IDLEBLOOM_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    paths = Paths.of()
    assert paths.settings_file == tmp_path / "config" / "idlebloom" / "settings.json"
    assert paths.runtime == tmp_path / "idlebloom"


def test_a_runtime_folder_without_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where XDG_RUNTIME_DIR is missing, the runtime folder is one of this user's own in /tmp."""
    monkeypatch.delenv("IDLEBLOOM_HOME")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert Paths.of().runtime.name == f"idlebloom-{os.getuid()}"


def test_folders_are_private(tmp_path: Path) -> None:
    """The folders are this user's alone, a runtime folder that was open is closed."""
    (tmp_path / "run").mkdir(mode=0o755)
    paths = Paths.of(tmp_path).make()
    assert paths.runtime.stat().st_mode & 0o777 == 0o700
    assert paths.cache.stat().st_mode & 0o777 == 0o700


def test_a_planted_runtime_folder_is_refused(tmp_path: Path) -> None:
    """A runtime folder that is a link, or someone else's, is never used."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match="belongs to someone else"):
        Paths.of(tmp_path).make()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way is said in words, with what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"cannot create the folder .*file.* Choose another folder"):
        Paths.of(tmp_path / "file" / "data").make()


def test_where_the_program_lies() -> None:
    """Child processes find the packages, and everyone the bundled model, from the program's own place."""
    assert (code() / "core" / "terms.py").is_file()
    assert bundled_model() == code() / "assets" / "model"
