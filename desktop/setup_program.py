"""What an installed package still has to fetch for the node, done here so that its progress is seen.

A package's launcher names its program in ``IDLEBLOOM_SETUP`` (a path or a JSON list); it prints lines:
``{"phase", "what", "done_bytes", "total_bytes", "seconds_left"}``, or ``{"error"}``. From a source tree there
is none, and nothing to do.
"""

from __future__ import annotations

import json
import os

from PySide6.QtCore import QObject, QProcess, Signal

from core.terms import Progress

VARIABLE = "IDLEBLOOM_SETUP"


class SetupProgram(QObject):
    """``moved``: a ``Progress``. ``ready``: all is there. ``failed``: why not, in words. Then start anew."""

    moved = Signal(object)
    ready = Signal()
    failed = Signal(str)

    def __init__(self, program: str | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._program = os.environ.get(VARIABLE, "") if program is None else program
        self._process: QProcess | None = None
        self._error = ""

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """At once ``ready`` where there is nothing to run."""
        if self._process is not None:
            return
        if not self._program:
            self.ready.emit()
            return
        process = QProcess(self)
        program, *arguments = words_of(self._program)
        process.setProgram(program)
        process.setArguments([*arguments, "node", "--json"])
        process.readyReadStandardOutput.connect(lambda: self._read(process))
        process.finished.connect(lambda: self._ended(process))
        process.errorOccurred.connect(lambda error: self._broke(process, error))
        self._process, self._error = process, ""
        process.start()

    def stop(self) -> None:
        """Ends it; what it fetched stays for the next time."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            if not process.waitForFinished(2000):
                process.kill()
                process.waitForFinished(1000)

    def _read(self, process: QProcess) -> None:
        while process.canReadLine():
            try:
                said = json.loads(bytes(process.readLine().data()))
            except ValueError:
                continue
            if not isinstance(said, dict):
                continue
            if "error" in said:
                self._error = str(said["error"])
            else:
                self.moved.emit(_progress(said))

    def _broke(self, process: QProcess, error: QProcess.ProcessError) -> None:
        if error is QProcess.ProcessError.FailedToStart:
            self._error = process.errorString()
            self._ended(process)

    def _ended(self, process: QProcess) -> None:
        if process is not self._process:
            return
        self._process = None
        process.deleteLater()
        well = process.exitStatus() is QProcess.ExitStatus.NormalExit and process.exitCode() == 0
        if well and not self._error:
            self.ready.emit()
        else:
            self.failed.emit(self._error or "the setup ended unexpectedly")


def words_of(program: str) -> list[str]:
    return [str(word) for word in json.loads(program)] if program.startswith("[") else [program]


def _progress(said: dict[str, object]) -> Progress:
    done, total, left = said.get("done_bytes"), said.get("total_bytes"), said.get("seconds_left")
    return Progress(
        "fetching" if said.get("phase") == "fetching" else "preparing",
        done if isinstance(done, int) else 0,
        total if isinstance(total, int) else 0,
        float(left) if isinstance(left, int | float) else None,
    )
