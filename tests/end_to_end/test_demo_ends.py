"""However a demo ends, nothing of it stays: no process, no socket, no file."""

from __future__ import annotations

import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.programs import Folder, Program, kill, signal_group, until

GONE_SECONDS = 20.0
"""Generous: on a PC that tests two things at once. Most take one."""
QUICK_SECONDS = 3.0


def start(place: Folder, donors: int = 1) -> Program:
    program = place.start("demo", "--json", "--no-browser", "--port", "0", "--donors", str(donors))
    program.ready()
    assert len(program.workers()) == donors and len(program.processes("p2pd")) == donors + 1
    return program


@pytest.mark.parametrize(
    "end",
    [
        lambda program: signal_group(program, signal.SIGINT),
        lambda program: program.send(signal.SIGTERM),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_told_to_end(place: Folder, end: Callable[[Program], None]) -> None:
    """It goes within seconds, quietly, while a reader of its status is connected too."""
    program = place.start("demo", "--json", "--no-browser", "--port", "0", "--donors", "1")
    url = program.ready()["url"]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(f"{url}/").close()
    with opener.open(f"{url}/api/status") as events:
        events.readline()
        started = time.monotonic()
        end(program)
        assert program.wait(20) in (0, 130)
        assert time.monotonic() - started < QUICK_SECONDS
    assert program.err == ""
    assert program.is_gone(), (program.processes(), program.leftovers())


def test_told_to_end_while_it_starts(place: Folder) -> None:
    """Ctrl-C before it is ready ends it as quietly."""
    program = place.start("demo", "--json", "--no-browser", "--port", "0", "--donors", "2")
    until(lambda: len(program.workers()) == 2, 30)
    signal_group(program, signal.SIGINT)
    assert program.wait(20) in (0, 130)
    assert program.out == program.err == ""
    assert program.is_gone(), (program.processes(), program.leftovers())


def test_its_main_process_is_killed(place: Folder) -> None:
    """Its donors notice, end, and clean up after it."""
    program = start(place, donors=2)
    program.send(signal.SIGKILL)
    program.wait()
    until(program.is_gone, GONE_SECONDS, program.remains)


def test_it_is_killed_while_it_starts(place: Folder) -> None:
    """The same before its donors have been told what to serve."""
    program = place.start("demo", "--json", "--no-browser", "--port", "0", "--donors", "2")
    until(lambda: len(program.workers()) == 2, 30)
    program.send(signal.SIGKILL)
    program.wait()
    until(program.is_gone, GONE_SECONDS, program.remains)


def test_a_donor_is_killed(place: Folder) -> None:
    """The whole demo ends and says in one line which part went."""
    program = start(place, 2)
    kill([next(one for one in program.workers() if donor_number(program, one) == 2)])
    assert program.wait(GONE_SECONDS) == 1
    words = "donor 2 is gone: the worker ended unexpectedly (signal 9)"
    assert program.err == f"idlebloom: {words}. The demo has ended.\n"
    until(program.is_gone, 1.0, "all gone")


def test_network_processes_that_are_killed_are_started_again(place: Folder) -> None:
    """The donor's and the demo's own: new ones take their place, and the demo ends as always."""
    program = start(place, 1)
    (worker,) = program.workers()
    killed = [program.daemon_of(worker), program.daemon_of(program.itself())]
    kill(killed)
    until(
        lambda: len(program.daemons()) == 2 and not set(program.daemons()) & set(killed), 20, "two new ones"
    )
    program.send(signal.SIGTERM)
    program.wait(GONE_SECONDS)
    until(program.is_gone, GONE_SECONDS, program.remains)


def donor_number(program: Program, worker: psutil.Process) -> int:
    """As the demo counts: its log's name is where standard error goes."""
    return int(Path(f"/proc/{worker.pid}/fd/2").readlink().stem.rpartition("-")[2])


def test_everything_is_killed_at_once(place: Folder) -> None:
    """Nobody is left to clean up: the next start does."""
    program = start(place)
    kill(program.processes())
    program.wait()
    until(lambda: not program.processes(), GONE_SECONDS)
    assert program.leftovers()
    after = place.run("demo", "--ask", "Hello", "--max-tokens", "2", "--donors", "1")
    assert after.process.returncode == 0
    assert program.leftovers() == []
