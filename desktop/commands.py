"""Commands of Idlebloom run beside the tray, their JSON answered without waiting."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import QObject, QProcess
from shiboken6 import isValid

from core.words import _
from desktop.node_process import environment, last_line

Done = Callable[[Any], None]
Failed = Callable[[str], None]


def run(
    parent: QObject, program: Sequence[str], arguments: Sequence[str], done: Done, failed: Failed
) -> QProcess:
    """``arguments`` with ``--json`` added. It ends with ``parent``."""
    process = QProcess(parent)
    process.setProgram(program[0])
    process.setArguments([*program[1:], *arguments, "--json"])
    process.setProcessEnvironment(environment())
    process.finished.connect(lambda code, status: _finished(process, code, done, failed))
    process.errorOccurred.connect(lambda error: _error(process, error, failed))
    process.start()
    process.closeWriteChannel()
    return process


def _finished(process: QProcess, code: int, done: Done, failed: Failed) -> None:
    if not isValid(process):
        return  # whoever asked has gone
    said = bytes(process.readAllStandardError().data()).decode("utf-8", errors="replace")
    lines = bytes(process.readAllStandardOutput().data()).splitlines()
    process.deleteLater()
    if code != 0:
        failed(last_line(said) or _("It ended without a word."))
        return
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        failed(_("It gave no readable answer."))
        return
    done(found)


def _error(process: QProcess, error: QProcess.ProcessError, failed: Failed) -> None:
    if isValid(process) and error is QProcess.ProcessError.FailedToStart:
        failed(process.errorString())
        process.deleteLater()
