from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import NodeError
from core.paths import Paths
from idlebloom import launch

HEAVY = (
    "torch",
    "hivemind",
    "transformers",
    "bitsandbytes",
    "flask",
    "keyring",
    "PySide6",
    "huggingface_hub",
)


class Probe:
    """A command that does what a test wants."""

    NAME, HELP = "probe", "a command of the tests"

    def __init__(self, fails: BaseException | None = None) -> None:
        self.fails = fails
        self.seen: list[tuple[argparse.Namespace, Paths]] = []

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--spans")

    def run(self, args: argparse.Namespace, paths: Paths) -> int:
        self.seen.append((args, paths))
        if self.fails is not None:
            raise self.fails
        return 0


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    command = Probe()
    monkeypatch.setattr(launch, "offered", lambda: iter([command]))
    return command


@pytest.mark.parametrize("command", list(launch.offered()), ids=lambda command: command.NAME)
def test_each_command_has_help(command: launch.Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command offered bears the name of its file, and has one line of help and a page of its own."""
    assert command.NAME in launch.COMMANDS
    assert "\n" not in command.HELP
    with pytest.raises(SystemExit, match="0"):
        launch.main([command.NAME, "--help"])
    assert f"idlebloom {command.NAME}" in capsys.readouterr().out


def test_help_is_light() -> None:
    """Help for all commands imports nothing that takes seconds."""
    probe = f"import sys, idlebloom.launch as l; l.main([]); print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    "argv",
    [["--json", "--data", "D", "probe"], ["probe", "--json", "--data=D"], ["--data", "D", "probe", "--json"]],
)
def test_options_before_or_after(probe: Probe, argv: list[str]) -> None:
    """--json and --data may stand before or after the command."""
    assert launch.main(argv) == 0
    [(args, paths)] = probe.seen
    assert args.json
    assert paths.settings == Path("D").absolute()


def test_options_left_out(probe: Probe, home: Path) -> None:
    """Without them there is no JSON, and the usual folders."""
    launch.main(["probe"])
    [(args, paths)] = probe.seen
    assert not args.json
    assert paths.settings == home


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["prob"], "“prob” is unknown, did you mean “probe”? See idlebloom --help."),
        (["xyz"], "“xyz” is unknown, there are probe. See idlebloom --help."),
        (["probe", "--span", "1"], "unrecognized arguments: --span 1. See idlebloom --help."),
    ],
)
def test_bad_arguments(probe: Probe, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad arguments are one line on stderr, and exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        launch.main(argv)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith(words + "\n")
    assert said.err.count("\n") == 1


def test_an_error_is_one_line(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    """An error is what is wrong and what to do, on one line of stderr, and exit code 1."""
    probe.fails = NodeError("it is\nnot running", "Start it.")
    assert launch.main(["probe"]) == 1
    assert capsys.readouterr().err == "idlebloom: it is not running. Start it.\n"


def test_no_traceback_reaches_a_user(probe: Probe, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody foresaw is one line; the traceback is in the log."""
    probe.fails = ZeroDivisionError("by zero")
    assert launch.main(["probe"]) == 1
    said = capsys.readouterr().err
    assert said == f"idlebloom: unexpected ZeroDivisionError: by zero; details in {home / 'idlebloom.log'}\n"
    assert "Traceback" in (home / "idlebloom.log").read_text()


def test_a_log_that_cannot_be_written(probe: Probe, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Even then it is one line."""
    (home / "idlebloom.log").mkdir()
    probe.fails = ZeroDivisionError("by zero")
    assert launch.main(["probe"]) == 1
    assert "the details could not be written" in capsys.readouterr().err


def test_ctrl_c_is_quiet(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C says nothing, and exits with 130."""
    probe.fails = KeyboardInterrupt()
    assert launch.main(["probe"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_gone(home: Path) -> None:
    """When whoever read the output has gone, nothing is complained about."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "idlebloom", "settings"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        env=os.environ | {"IDLEBLOOM_HOME": str(home)},
    )
    os.close(write)
    assert done.stderr == b""


def test_closed_standard_streams(home: Path) -> None:
    """Then the program works all the same, and nobody hears of it."""
    closed = f"exec {sys.executable} -m idlebloom key <&- >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", closed], check=False).returncode == 0
    assert json.loads((home / "secrets.json").read_text())["api_key"]


def test_a_full_disk_under_the_output(home: Path) -> None:
    """It is said in words."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "idlebloom", "settings"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("idlebloom: no space left on device. Free some space")


def test_what_a_terminal_cannot_show(home: Path) -> None:
    """It is written as a code, also where it is no text at all."""
    command = [sys.executable, "-m", "idlebloom", "--data", os.fsdecode(os.fsencode(home) + b"\xff"), "key"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ascii_only)
    assert done.returncode == 1
    assert "\\udcff' is not text in UTF-8. Choose another folder" in done.stderr


def test_a_module_that_is_missing_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is there is offered."""
    monkeypatch.setattr(launch, "COMMANDS", ("settings", "not_there"))
    assert [command.NAME for command in launch.offered()] == ["settings"]


def test_version() -> None:
    """--version names the program and its version."""
    done = subprocess.run(
        [sys.executable, "-m", "idlebloom", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("idlebloom ")


def test_settings_as_a_person_types_them(home: Path) -> None:
    """The real program, from its command line to the file."""
    done = subprocess.run(
        [sys.executable, "-m", "idlebloom", "settings", "set", "port", "8000", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"port": 8000}
    assert json.loads((home / "settings.json").read_text()) == {"port": 8000}
