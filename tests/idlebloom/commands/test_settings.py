from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.door import RunningNode
from core.paths import Paths
from core.settings import DECLARED
from idlebloom import launch


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an action, every setting is listed with its value; with --json as one object."""
    assert launch.main(["settings"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == list(DECLARED)
    launch.main(["settings", "--json"])
    assert json.loads(capsys.readouterr().out)["port"] == 7714


def test_set_and_get(capsys: pytest.CaptureFixture[str]) -> None:
    """What was set is said, and got back."""
    launch.main(["settings", "set", "donate", "when-idle"])
    launch.main(["settings", "get", "donate"])
    assert capsys.readouterr().out == "when_idle\nwhen_idle\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["set", "port"], "Say: idlebloom settings set NAME VALUE"),
        (["get"], "Say: idlebloom settings get NAME"),
        (["get", "prot"], "Did you mean “port”?"),
        (["set", "port", "1"], "port must be a whole number from 1024 to 65535, not “1”"),
    ],
)
def test_what_is_wrong_is_said(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name or value that will not do is refused with what would: a bad argument."""
    assert launch.main(["settings", *argv]) == 2
    assert words in capsys.readouterr().err


def test_a_model_that_is_not_there_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a folder here nor named as on the hub: nothing has changed."""
    assert launch.main(["settings", "set", "model", str(home / "nowhere")]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "there is no model folder" in said.err and "settings set model" in said.err
    for model in (str(home), "bigscience/bloomz-560m", DECLARED["model"].default):
        assert launch.main(["settings", "set", "model", str(model)]) == 0


def test_a_folder_that_cannot_be_used_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what chooses another folder for layers; one that is not there yet is made."""
    (home / "file").touch()
    assert launch.main(["settings", "set", "data_dir", str(home / "file" / "below")]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "cannot create the folder" in said.err
    assert said.err.endswith("Choose another folder: idlebloom settings set data_dir FOLDER\n")
    assert launch.main(["settings", "set", "data_dir", str(home / "layers")]) == 0
    assert (home / "layers").is_dir()
    assert launch.main(["settings", "set", "data_dir", "auto"]) == 0


def test_a_broken_file_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken file is kept aside and the defaults are used, and that is said."""
    (home / "settings.json").write_text("{")
    assert launch.main(["settings", "get", "port"]) == 0
    said = capsys.readouterr()
    assert said.out == "7714\n"
    assert "The default settings are used." in said.err


def test_a_running_node_is_asked(
    home: Path, door_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a node runs, the change goes through it, so that it takes effect at once."""
    RunningNode(door_url, os.getpid(), "secret").write(Paths.of().door_file)
    asked: list[tuple[str, object, str]] = []

    def request(_: RunningNode, path: str, body: Mapping[str, object], method: str) -> dict[str, Any]:
        asked.append((path, body, method))
        return {"donate": "always"}

    monkeypatch.setattr(RunningNode, "request", request)
    assert launch.main(["settings", "set", "donate", "always"]) == 0
    assert asked == [("/api/settings", {"donate": "always"}, "PUT")]
    assert capsys.readouterr().out == "always\n"
    assert not (home / "settings.json").exists()


def test_a_dead_nodes_file_is_in_nobodys_way(home: Path) -> None:
    """Where nothing listens any more, whoever has the node's process number by now, the file is changed."""
    RunningNode("http://127.0.0.1:9", os.getpid(), "secret").write(Paths.of().door_file)
    assert launch.main(["settings", "set", "port", "8000"]) == 0
    assert json.loads((home / "settings.json").read_text())["port"] == 8000
