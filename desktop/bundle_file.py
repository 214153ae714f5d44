"""Where the support bundle goes: the owner says it; the command, which knows what may be in it, writes."""

from __future__ import annotations

import time
from pathlib import Path

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QFileDialog, QWidget

from core.words import _, sentence
from desktop import boxes, commands


def save_bundle(owner: QObject, program: list[str], window: QWidget | None) -> None:
    start = Path.home() / f"idlebloom-{time.strftime('%Y%m%d-%H%M')}.zip"
    chosen, _kind = QFileDialog.getSaveFileName(window, _("Save a support bundle"), str(start), "*.zip")
    if not chosen:
        return

    def failed(why: str) -> None:
        boxes.warn(window, _("The bundle was not saved"), sentence(why))

    commands.run(owner, program, ["bundle", chosen], lambda said: None, failed)
