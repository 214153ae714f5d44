"""Small boxes that say or ask one thing. None of them stops the program while it is open."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox, QWidget

from core.words import _
from desktop import phrases


def warn(parent: QWidget | None, title: str, text: str) -> None:
    _open(QMessageBox(QMessageBox.Icon.Warning, title, text, QMessageBox.StandardButton.Ok, parent))


def ask_to_quit(parent: QWidget | None, stop: Callable[[], None], go_on: Callable[[], None]) -> None:
    """Without an icon to come back to, closing the window may mean either."""
    box = QMessageBox(
        QMessageBox.Icon.Question,
        phrases.NAME,
        _("Quit Idlebloom, or let it go on in the background?"),
        parent=parent,
    )
    box.setInformativeText(
        _("This desktop shows no tray icons. To see this window again, start Idlebloom again.")
    )
    stopping = box.addButton(_("Quit"), QMessageBox.ButtonRole.DestructiveRole)
    going_on = box.addButton(_("Go on"), QMessageBox.ButtonRole.AcceptRole)
    box.addButton(_("Cancel"), QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(going_on)
    box.buttonClicked.connect(
        lambda button: stop() if button is stopping else go_on() if button is going_on else None
    )
    _open(box)


def _open(box: QMessageBox) -> None:
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.open()
