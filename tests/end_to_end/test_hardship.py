"""A PC on which little works: a keyring that never answers, no bus, a disk that is full or may not be
written to, a clock that jumps. Nothing hangs, and each is said."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.door import find_running
from core.errors import NodeError
from core.preferences import Preferences
from tests.end_to_end.programs import Folder, Program, disk, folder, until
from tests.screen import virtual_screen

pytestmark = pytest.mark.root  # a file system of its own is mounted
KEYRING = """
import time
from keyring.backend import KeyringBackend

class Locked(KeyringBackend):
    priority = 1
    def get_password(self, service, username):
        time.sleep(3600)
    def set_password(self, service, username, password):
        time.sleep(3600)
"""
CLOCK = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The wall's clock, moved by as many seconds as a file says. */
int clock_gettime(clockid_t which, struct timespec *now) {
    long done = syscall(SYS_clock_gettime, which, now);
    FILE *file = which == CLOCK_REALTIME ? fopen(getenv("MOVED"), "r") : NULL;
    long seconds = 0;
    if (file != NULL) {
        if (fscanf(file, "%ld", &seconds) == 1)
            now->tv_sec += seconds;
        fclose(file);
    }
    return (int)done;
}
"""


@dataclass
class Hard:
    """``moved`` says by how many seconds the wall's clock is wrong."""

    place: Folder
    program: Program
    moved: Path

    @property
    def node(self) -> Any:
        return find_running(self.place.path / "data" / "run" / "door.json")

    def reason(self) -> dict[str, Any]:
        found = self.node.request("/api/status?once=1")["reason"]
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def hard() -> Iterator[Hard]:
    with folder() as place, disk(place.path / "data", "size=4m"):
        (place.path / "locked_ring.py").write_text(KEYRING)
        source, library, moved = (place.path / name for name in ("clock.c", "clock.so", "moved"))
        source.write_text(CLOCK)
        subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True)
        moved.write_text("0")
        environment = {
            "PYTHONPATH": str(place.path),
            "PYTHON_KEYRING_BACKEND": "locked_ring.Locked",
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
            "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent",
            "LD_PRELOAD": str(library),
            "MOVED": str(moved),
        }
        Preferences(place.path / "data" / "settings.json").change({"donate": "when_idle"})
        program = place.start("node", "--port", "0", environment=environment)
        program.line()
        yield Hard(place, program, moved)
        program.send(signal.SIGTERM)
        assert program.wait() == 0 and program.is_gone()


def test_a_keyring_that_does_not_answer(hard: Hard) -> None:
    """The node starts all the same, and says that its secrets are in a file."""
    assert "the keyring did not answer within 5 seconds; secrets are kept in" in hard.program.err
    assert hard.program.err.count("\n") == 1


def test_a_clock_that_jumps(hard: Hard) -> None:
    """A pause of an hour stays one, whichever way the clock is set."""
    hard.node.request("/api/donate", {"action": "pause", "for": "1h"})
    until(lambda: hard.reason()["kind"] == "paused", 5)
    for moved in (7200, -86_400, 0):
        hard.moved.write_text(str(moved))
        due = time.time() + moved + 3600
        until(lambda due=due: abs(hard.reason()["until"] - due) < 60, 5, str(moved))
    hard.node.request("/api/donate", {"action": "resume"})
    until(lambda: hard.reason()["kind"] != "paused", 5)


def test_a_disk_that_is_full(hard: Hard) -> None:
    """What cannot be kept is refused with the reason, a pause holds without being kept, and when there is
    room again all is as before."""
    filler = hard.place.path / "data" / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)
    with pytest.raises(NodeError, match="no space left on device"):
        hard.node.request("/api/settings", {"hours": "22:00-06:00"}, method="PUT")
    assert hard.node.request("/api/settings")["hours"] == ""
    hard.node.request("/api/donate", {"action": "pause", "for": "1h"})
    until(lambda: hard.reason()["kind"] == "paused", 5)
    filler.unlink()
    assert hard.node.request("/api/settings", {"hours": "22:00-06:00"}, method="PUT")["hours"]
    hard.node.request("/api/donate", {"action": "resume"})
    until(lambda: hard.reason()["kind"] != "paused", 5)


@pytest.mark.xvfb
def test_a_home_that_is_read_only(place: Folder) -> None:
    """The node refuses in one line; the tray, which nobody sees the lines of, opens a window with the same
    words, and ends when it is closed."""
    with disk(place.path / "data", "ro"), virtual_screen() as screen:
        words = place.refusal("node", "--port", "0")
        assert words.startswith(f"cannot write to the folder {place.path / 'data'}") and "--data DIR" in words
        tray = place.start(environment=screen.environment)
        until(lambda: screen.windows("Idlebloom"), 60, "a window")
        until(lambda: (screen.press("Return"), tray.process.poll() is not None)[1], 20)
        assert tray.wait() == 1 and tray.err == f"idlebloom: {words}\n"
