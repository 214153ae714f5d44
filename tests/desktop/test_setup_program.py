"""What a package still has to fetch, with a program of the test's own in the package's place."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from core.terms import Progress
from desktop.setup_program import SetupProgram

Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "setup"


def write(program: Path, lines: list[object], code: int = 0, then: str = "") -> None:
    said = "".join(f"print({json.dumps(json.dumps(line))}, flush=True)\n" for line in lines)
    program.write_text(f"#!{sys.executable}\nimport sys, time\n{said}{then}\nsys.exit({code})\n")
    program.chmod(0o700)


class Heard:
    """All that a setup program said."""

    def __init__(self, setup: SetupProgram, until: Until) -> None:
        self.moved: list[Progress] = []
        self.ends: list[str] = []
        self._until = until
        setup.moved.connect(self.moved.append)
        setup.ready.connect(lambda: self.ends.append("ready"))
        setup.failed.connect(self.ends.append)

    def wait(self) -> str:
        self._until(lambda: self.ends)
        return self.ends[-1]


def test_without_one_all_is_ready(qt: QApplication, until: Until) -> None:
    """From a source tree there is nothing to run, and the node may start at once."""
    setup = SetupProgram("")
    heard = Heard(setup, until)
    setup.start()
    assert heard.ends == ["ready"]


def test_its_progress_is_told(qt: QApplication, until: Until, program: Path) -> None:
    """Bytes and time left become a Progress; other phases have no figures; noise between is passed over."""
    fetching = {"phase": "fetching", "what": "x", "done_bytes": 5, "total_bytes": 9, "seconds_left": 3}
    write(program, [fetching, [1], {"phase": "installing", "what": "y"}])
    setup = SetupProgram(str(program))
    heard = Heard(setup, until)
    setup.start()
    assert heard.wait() == "ready"
    assert heard.moved == [Progress("fetching", 5, 9, 3.0), Progress("preparing", 0, 0, None)]


def test_its_error_is_told_and_it_may_be_tried_again(qt: QApplication, until: Until, program: Path) -> None:
    """What was wrong comes in the program's own words, and the next start may go well."""
    write(program, [{"error": "the disk is full"}], code=1)
    setup = SetupProgram(str(program))
    heard = Heard(setup, until)
    setup.start()
    assert heard.wait() == "the disk is full"
    write(program, [])
    heard.ends.clear()
    setup.start()
    assert heard.wait() == "ready"


def test_a_crash_is_an_error(qt: QApplication, until: Until, program: Path) -> None:
    """A program that dies, or is not there, is no success."""
    write(program, [], then="import os; os.kill(os.getpid(), 9)")
    setup = SetupProgram(str(program))
    heard = Heard(setup, until)
    setup.start()
    assert heard.wait() == "the setup ended unexpectedly"
    missing = SetupProgram(str(program.with_name("gone")))
    heard = Heard(missing, until)
    missing.start()
    assert heard.wait() not in ("", "ready")


def test_stopping_ends_it(qt: QApplication, until: Until, program: Path) -> None:
    """Quitting does not leave it behind, and says nothing more."""
    write(program, [{"phase": "fetching"}], then="time.sleep(60)")
    setup = SetupProgram(str(program))
    heard = Heard(setup, until)
    setup.start()
    until(lambda: heard.moved)
    setup.stop()
    qt.processEvents()
    assert (setup.running, heard.ends) == (False, [])
