"""The demo as a process beside the first run: started, told to end, and ended. It ends when its input does,
also where it runs in Windows' Linux, which no signal reaches."""

from __future__ import annotations

import json

from PySide6.QtCore import QObject, QProcess, Signal

from core.words import _
from desktop import parts
from desktop.node_process import end_group, environment

ENDS_MS = 15_000
"""What a demo that was told to end gets for it;"""
AT_ONCE_MS = 6000
"""and one that has to go with its window."""


class Demo(QObject):
    """``said``: how it stands, in words. ``open``: the address of its page. ``ended``: it has."""

    said = Signal(str)
    open = Signal(str)
    ended = Signal()

    def __init__(self, program: list[str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._program = program
        self._process: QProcess | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        process = QProcess(self)
        process.setProgram(self._program[0])
        process.setArguments([*self._program[1:], "demo", "--json", "--no-browser", "--owned"])
        process.setProcessEnvironment(environment())
        parameters = QProcess.UnixProcessParameters()
        parameters.flags = QProcess.UnixProcessFlag.CreateNewSession
        process.setUnixProcessParameters(parameters)
        process.readyReadStandardOutput.connect(lambda: self._hear(process))
        process.finished.connect(lambda: self._ended(process))
        process.errorOccurred.connect(lambda error: self._failed(process, error))
        self._process = process
        self.said.emit(_("The demo starts…"))
        process.start()

    def _hear(self, process: QProcess) -> None:
        for line in bytes(process.readAllStandardOutput().data()).splitlines():
            try:
                url = str(json.loads(line)["url"])
            except (ValueError, KeyError, TypeError):
                continue
            self.said.emit(_("The demo runs at {url}, until you end it here.").format(url=url))
            self.open.emit(url)

    def _failed(self, process: QProcess, error: QProcess.ProcessError) -> None:
        if error is QProcess.ProcessError.FailedToStart:
            self._ended(process)

    def _ended(self, process: QProcess) -> None:
        if process is self._process:
            self._process = None
            self.said.emit(_("The demo has ended."))
            self.ended.emit()

    def tell_to_end(self) -> None:
        """In good order, and without anybody waiting."""
        process = self._process
        if process is not None:
            self.said.emit(_("The demo ends…"))
            process.closeWriteChannel()
            parts.after(ENDS_MS, self, lambda: self.end() if process is self._process else None)

    def end(self) -> None:
        """At once, at the latest after a few seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        group = process.processId()
        process.closeWriteChannel()
        if not process.waitForFinished(AT_ONCE_MS):
            process.kill()
        end_group(group)
        self.said.emit(_("The demo has ended."))
        self.ended.emit()
