"""The icon on the panel: its shape, its one line and its menu, all drawn anew from each snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QSystemTrayIcon

from desktop import icons
from desktop.menu import Entry, Order
from desktop.snapshot import Face

POLL_MS = 2000


class Tray(QObject):
    """``ordered``: what was chosen in the menu. ``shown``: whether there is a host, whenever that changes;
    the icon is made when one comes and dropped when it goes. ``clicked``: the icon itself."""

    ordered = Signal(object)
    shown = Signal(bool)
    clicked = Signal()

    def __init__(self, there: Callable[[], bool], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._there = there
        self._icon: QSystemTrayIcon | None = None
        self._face, self._tooltip = Face.OFF, ""
        self._entries: tuple[Entry, ...] = ()
        self.menu = QMenu()
        self.menu.aboutToHide.connect(lambda: QTimer.singleShot(0, self._refill))
        self._filled: tuple[Entry, ...] = ()
        self._poll = QTimer(self)
        self._poll.setInterval(POLL_MS)
        self._poll.timeout.connect(self.look)

    @property
    def visible(self) -> bool:
        return self._icon is not None

    @property
    def icon(self) -> QSystemTrayIcon | None:
        return self._icon

    def start(self) -> None:
        self.look()
        self._poll.start()

    def stop(self) -> None:
        self._poll.stop()
        self._drop()

    def look(self) -> None:
        """Follow the host: there or not."""
        there = self._there()
        if there and self._icon is None:
            self._make()
            self.shown.emit(True)
        elif not there and self._icon is not None:
            self._drop()
            self.shown.emit(False)

    def draw(self, face: Face, tooltip: str, entries: Sequence[Entry]) -> None:
        self._face, self._tooltip, self._entries = face, tooltip, tuple(entries)
        if self._icon is not None:
            self._icon.setIcon(icons.face(face))
            self._icon.setToolTip(tooltip)
        self._refill()

    def notify(self, title: str, text: str) -> None:
        """A notification, where there is an icon to hang it on."""
        if self._icon is not None:
            self._icon.showMessage(title, text, icons.app())

    def _make(self) -> None:
        self._icon = QSystemTrayIcon(icons.face(self._face), self)
        self._icon.setToolTip(self._tooltip)
        self._icon.setContextMenu(self.menu)
        self._icon.activated.connect(self._activated)
        self._icon.messageClicked.connect(self.clicked)
        self._icon.show()

    def _drop(self) -> None:
        icon, self._icon = self._icon, None
        if icon is not None:
            icon.hide()
            icon.deleteLater()

    def _activated(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason in (QSystemTrayIcon.ActivationReason.Trigger, QSystemTrayIcon.ActivationReason.DoubleClick):
            self.clicked.emit()

    def _refill(self) -> None:
        """Nothing moves under the pointer: a menu that is open is filled anew when it closes."""
        if self._entries == self._filled or self.menu.isVisible():
            return
        self._filled = self._entries
        self.menu.clear()
        for old in self.menu.findChildren(QMenu):
            old.deleteLater()
        fill(self.menu, self._entries, self.ordered.emit)


def fill(menu: QMenu, entries: Sequence[Entry], order: Callable[[Order], None]) -> None:
    """Put entries into a menu; words alone are shown greyed."""
    for entry in entries:
        if not entry.text:
            menu.addSeparator()
        elif entry.under:
            fill(menu.addMenu(entry.text.replace("&", "&&")), entry.under, order)
        else:
            action = QAction(entry.text.replace("&", "&&"), menu)
            action.setEnabled(entry.order is not None)
            action.triggered.connect(lambda _=False, chosen=entry.order: order(chosen))
            menu.addAction(action)
