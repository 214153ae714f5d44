"""Is there a place for a tray icon? Asked again and again: hosts come late, go, and return.

Qt must not be asked before there is one: it looks for a StatusNotifier host once in its life, and an icon
shown before a host exists never reaches one that comes later. So the two kinds of host are asked directly:
StatusNotifier over D-Bus (KDE, GNOME with the AppIndicator extension), then the owner of the X11 tray.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from PySide6.QtDBus import QDBusConnection, QDBusInterface
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QSystemTrayIcon

WATCHER = "org.kde.StatusNotifierWatcher"
BUS_MS = 500


class Hosts:
    """``there`` asks all of them once."""

    def __init__(self) -> None:
        self._x11 = X11Tray() if QGuiApplication.platformName() == "xcb" else None

    def there(self) -> bool:
        if sys.platform == "win32":
            return QSystemTrayIcon.isSystemTrayAvailable()
        return notifier_host() or (self._x11 is not None and self._x11.owned())


def notifier_host() -> bool:
    """Whether a StatusNotifier host is registered at the watcher of the session bus."""
    bus = QDBusConnection.sessionBus()
    if not bus.isConnected() or not bus.interface().isServiceRegistered(WATCHER).value():
        return False
    watcher = QDBusInterface(WATCHER, "/StatusNotifierWatcher", WATCHER, bus)
    watcher.setTimeout(BUS_MS)
    return bool(watcher.property("IsStatusNotifierHostRegistered"))


class X11Tray:
    """Who owns the selection of the X11 system tray, over a connection of our own."""

    def __init__(self) -> None:
        self._library: Any = None
        try:
            library = ctypes.CDLL("libX11.so.6")
        except OSError:
            return  # Qt is asked instead
        library.XOpenDisplay.restype = ctypes.c_void_p
        library.XInternAtom.restype = ctypes.c_ulong
        library.XInternAtom.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
        library.XGetSelectionOwner.restype = ctypes.c_ulong
        library.XGetSelectionOwner.argtypes = (ctypes.c_void_p, ctypes.c_ulong)
        self._display = library.XOpenDisplay(None)
        if self._display:
            name = f"_NET_SYSTEM_TRAY_S{library.XDefaultScreen(ctypes.c_void_p(self._display))}"
            self._atom = library.XInternAtom(self._display, name.encode(), 0)
            self._library = library

    def owned(self) -> bool:
        if self._library is None:
            return QSystemTrayIcon.isSystemTrayAvailable()
        return bool(self._library.XGetSelectionOwner(self._display, self._atom))
