"""Starts the desktop: Qt's application around ``desktop.app``, until it is quit or told to end."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QEvent, QSocketNotifier, QTimer
from PySide6.QtWidgets import QApplication, QMessageBox

from core.errors import IdlebloomError
from core.paths import Paths
from core.preferences import Preferences
from core.words import sentence
from desktop import icons, phrases, style
from desktop.app import App
from desktop.host import Hosts
from desktop.single import Single, wake
from desktop.wsl import Wsl

SOCKET = "tray.sock"
XCB = ("libxcb-cursor.so.0", "libxcb-icccm.so.4", "libxcb-keysyms.so.1", "libxkbcommon-x11.so.0")


def run(
    paths: Paths, program: list[str], preferences: Callable[[], Preferences], offered: frozenset[str]
) -> int:
    """``program`` starts Idlebloom, with its data folder. Raises ``IdlebloomError``."""
    check_libraries()
    app = Application([phrases.NAME])
    app.setApplicationName(phrases.NAME)
    app.setDesktopFileName("idlebloom")
    app.setWindowIcon(icons.app())
    app.setQuitOnLastWindowClosed(False)
    style.dress(app)
    try:
        paths.make()
    except IdlebloomError as error:
        # Whoever started it from a menu sees no terminal.
        QMessageBox.critical(None, phrases.NAME, sentence(str(error)))
        raise
    address = socket_name(paths)
    if wake(address):
        return 0
    single = Single(address)
    wsl = Wsl() if sys.platform == "win32" else None
    desktop = App(paths, program, preferences, Hosts().there, offered, wsl=wsl)
    single.woken.connect(desktop.woken)
    signals = _Signals(desktop.quit)
    QTimer.singleShot(0, desktop.start)
    code = app.exec()
    signals.close()
    single.close()
    desktop.stop()
    return code


def socket_name(paths: Paths) -> Path:
    """On Windows a pipe, whose name may have no folders."""
    if sys.platform == "win32":
        return Path(f"idlebloom-{hashlib.sha256(str(paths.runtime).encode()).hexdigest()[:16]}")
    return paths.runtime / SOCKET


def check_libraries() -> None:
    """Qt ends the whole program where it lacks one of these; so they are asked for first."""
    if sys.platform != "linux" or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("QT_QPA_PLATFORM"):
        return
    for library in XCB:
        try:
            ctypes.CDLL(library)
        except OSError:
            raise IdlebloomError(
                f"this system lacks {library}, which windows need",
                "Install it: sudo apt install libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 "
                "libxkbcommon-x11-0. "
                "Without a window: idlebloom node.",
            ) from None


class Application(QApplication):
    """Ends when it is asked to, by a session that ends too. Qt would ask every window first, and one without
    a tray icon to go to answers with a question."""

    def event(self, event: QEvent) -> bool:
        if event.type() is QEvent.Type.Quit:
            self.exit(0)
            return True
        return super().event(event)


class _Signals:
    """Ctrl-C and a session's end reach Python only when it runs: a socket wakes Qt's loop for them."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._reads, self._writes = socket.socketpair()
        self._reads.setblocking(False)
        self._writes.setblocking(False)
        self._notifier = QSocketNotifier(self._reads.fileno(), QSocketNotifier.Type.Read)
        self._notifier.activated.connect(self._read)
        signal.set_wakeup_fd(self._writes.fileno())
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):  # Windows lacks the last
                signal.signal(getattr(signal, name), lambda *_: then())

    def _read(self) -> None:
        self._reads.recv(64)

    def close(self) -> None:
        self._notifier.setEnabled(False)
        signal.set_wakeup_fd(-1)
        self._reads.close()
        self._writes.close()
