"""The node under this tray: attached to where one runs already, else started, watched and started again.

A started node is ``--owned``: it has a session of its own, and ends when its standard input does, which
this process holds. So it ends with the tray, however that ends; and where the node has ended, whatever it
left in its session is ended from here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal
from shiboken6 import isValid

from core import door
from core.door import RunningNode
from core.paths import Paths, code
from desktop.autostart import started_by

LOOK_MS = 1000
"""How often the door file is looked at until a node has come."""
WATCH_MS = 5000
"""How often a node that is not ours is looked at."""
PAUSES = (1.0, 3.0, 10.0, 30.0, 60.0)
"""Seconds before a node that ended is started again; the last one repeats."""
STEADY_SECONDS = 120.0
"""A node that ran for so long was well: the pauses begin anew."""
ENDING_MS = 8000
"""What a node gets to end in good order."""
OURS = "idlebloom: "
"""How a line for people begins."""
TAIL = 4000
"""Characters of what it said last that are kept to say why it ended."""


def command(data: Path | None) -> list[str]:
    """How a node is started, and any other command of this Idlebloom."""
    return [*started_by(), *(["--data", str(data)] if data else [])]


class NodeProcess(QObject):
    """``found``: the door of a running node. ``gone``: it has ended, with words about why. ``noticed``:
    what it had to say as it started, such as of a file that was damaged."""

    found = Signal(object)
    gone = Signal(str)
    noticed = Signal(str)

    def __init__(
        self,
        paths: Paths,
        program: list[str],
        parent: QObject | None = None,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        super().__init__(parent)
        self._paths, self._program, self._pauses = paths, program, pauses
        self._process: QProcess | None = None
        self._running: RunningNode | None = None
        self._failures = 0
        self._said = ""
        self._wanted = False
        self._look = _timer(self, LOOK_MS, self._look_for_door)
        self._watch = _timer(self, WATCH_MS, self._watch_other)
        self._again = _timer(self, 0, self._start, once=True)
        self._steady = _timer(self, int(STEADY_SECONDS * 1000), self._was_well, once=True)

    @property
    def owned(self) -> bool:
        """Whether the node runs under this tray."""
        return self._process is not None

    @property
    def pid(self) -> int:
        return self._running.pid if self._running else 0

    def start(self) -> None:
        """Attach to a running node, or start one. It is kept running from then on."""
        self._wanted = True
        self._start()

    def _start(self) -> None:
        running = door.find(self._paths.door_file)
        if running is not None:
            self._attach(running)
            self._watch.start()
            return
        process = QProcess(self)
        process.setProgram(self._program[0])
        process.setArguments([*self._program[1:], "node", "--owned", "--json"])
        process.setProcessEnvironment(environment())
        parameters = QProcess.UnixProcessParameters()
        parameters.flags = QProcess.UnixProcessFlag.CreateNewSession
        process.setUnixProcessParameters(parameters)
        process.readyReadStandardOutput.connect(lambda: process.readAllStandardOutput())
        process.readyReadStandardError.connect(lambda: self._hear(process))
        process.started.connect(lambda: process.setProperty("group", process.processId()))
        process.finished.connect(lambda: self._ended(process))
        process.errorOccurred.connect(lambda error: self._failed(process, error))
        self._process, self._said = process, ""
        process.start()
        self._look.start()

    def _hear(self, process: QProcess) -> None:
        text = bytes(process.readAllStandardError().data()).decode("utf-8", errors="replace")
        self._said = (self._said + text)[-TAIL:]

    def _failed(self, process: QProcess, error: QProcess.ProcessError) -> None:
        if error is QProcess.ProcessError.FailedToStart:
            self._said = process.errorString()
            self._ended(process)

    def _look_for_door(self) -> None:
        running = door.find(self._paths.door_file)
        if running is not None:
            self._look.stop()
            self._attach(running)

    def _attach(self, running: RunningNode) -> None:
        self._running = running
        if self._process is not None:
            self._steady.start()
            for notice in notices(self._said):
                self.noticed.emit(notice)
            self._said = ""  # none of that is why it ends, when it does
        self.found.emit(running)

    def _watch_other(self) -> None:
        """A node that someone else started: if it ends, one of our own takes its place."""
        if self._running is not None and not door.alive(self._running.pid):
            self._watch.stop()
            self._lost("")

    def _ended(self, process: QProcess) -> None:
        if process is not self._process or not isValid(process):
            return
        end_group(int(process.property("group") or 0))
        self._process = None
        process.deleteLater()
        self._look.stop()
        self._steady.stop()
        self._lost(last_line(self._said))

    def _lost(self, why: str) -> None:
        self._running = None
        if not self._wanted:
            return
        pause = self._pauses[min(self._failures, len(self._pauses) - 1)] if self._failures >= 0 else 0.0
        self._failures += 1
        self.gone.emit(why)
        self._again.start(int(pause * 1000))

    def _was_well(self) -> None:
        self._failures = 0

    def restart(self) -> None:
        """End our node in good order; the next one starts at once. For what only takes effect at a start."""
        if self._process is not None:
            self._failures = -1
            self._process.closeWriteChannel()

    def stop(self) -> None:
        """End our node in good order, at the latest after some seconds by force. A node that was there
        before us runs on. Blocks: for the end of the program."""
        self._wanted = False
        for timer in (self._look, self._watch, self._again, self._steady):
            timer.stop()
        process, self._process = self._process, None
        if process is None:
            return
        group = process.processId()
        process.closeWriteChannel()
        if not process.waitForFinished(ENDING_MS):
            process.kill()
            process.waitForFinished(1000)
        end_group(group)


def environment() -> QProcessEnvironment:
    """Of a child that runs this program's packages."""
    found = QProcessEnvironment.systemEnvironment()
    known = [part for part in found.value("PYTHONPATH").split(os.pathsep) if part]
    found.insert("PYTHONPATH", os.pathsep.join(dict.fromkeys([str(code()), *known])))
    return found


def end_group(group: int) -> None:
    """End whatever is left of a session that we started."""
    if sys.platform == "win32":  # what a node leaves there ends with its distribution
        return
    if group > 1:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nothing was left


def notices(said: str) -> list[str]:
    """Lines for people, as all commands say them."""
    return [line.removeprefix(OURS) for line in said.splitlines() if line.startswith(OURS)]


def last_line(said: str) -> str:
    """The last thing that a program said, without its name."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix(OURS) if lines else ""


def _timer(parent: QObject, interval: int, then: Callable[[], None], once: bool = False) -> QTimer:
    timer = QTimer(parent)
    timer.setInterval(interval)
    timer.setSingleShot(once)
    timer.timeout.connect(then)
    return timer
