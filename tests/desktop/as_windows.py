"""Starts Idlebloom as on Windows, as far as Linux can: without the modules and calls that Windows lacks.

Libraries that look at the system when they are imported have been imported before, as the ones for Linux.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from types import SimpleNamespace

import appdirs
import keyring
import psutil
import pynvml
import PySide6.QtDBus
import PySide6.QtNetwork
import PySide6.QtWidgets

LACKING = ("fcntl", "pwd", "grp", "resource", "termios", "Xlib", "jeepney")
LOADED = (asyncio, shutil, subprocess, tempfile, uuid, appdirs, psutil, pynvml, PySide6)


def no_call(*_arguments: object) -> int:
    """A call of Windows that fails: its reading is unknown."""
    return 0


def no_object(*_arguments: object) -> int:
    """A class that is not registered."""
    return -2147221164


class Registry:
    """The user's, kept nowhere."""

    HKEY_CURRENT_USER = KEY_SET_VALUE = REG_SZ = 1

    def __init__(self, *_arguments: object) -> None:
        self.CreateKeyEx = self.OpenKey = Registry

    def __enter__(self) -> None:
        """A key is one of these too."""

    def __exit__(self, *_arguments: object) -> None:
        """Nothing was opened."""

    def SetValueEx(self, *_arguments: object) -> None:  # noqa: N802
        """Kept nowhere."""

    def QueryValueEx(self, *_arguments: object) -> None:  # noqa: N802
        raise FileNotFoundError

    def DeleteValue(self, *_arguments: object) -> None:  # noqa: N802
        raise FileNotFoundError


class Credentials:
    """Windows' keyring: a file that the test reads."""

    FILE = Path(os.environ.get("FAKE_KEYRING", os.devnull))

    def _kept(self) -> dict[str, str]:
        return dict(json.loads(self.FILE.read_text())) if self.FILE.is_file() else {}

    def get_password(self, _service: str, name: str) -> str | None:
        return self._kept().get(name)

    def set_password(self, _service: str, name: str, value: str) -> None:
        self.FILE.write_text(json.dumps(self._kept() | {name: value}))

    def delete_password(self, _service: str, name: str) -> None:
        self.FILE.write_text(json.dumps({kept: v for kept, v in self._kept().items() if kept != name}))


class Library:
    def __getattr__(self, name: str) -> object:
        return no_call


def change() -> None:
    for name in LACKING:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in ("getuid", "geteuid", "getgid", "killpg", "getpgid", "setsid", "uname"):
        delattr(os, name)
    for name in ("SIGHUP", "SIGKILL"):
        delattr(signal, name)
    libraries = ("user32", "kernel32", "shell32", "wtsapi32", "powrprof", "ole32", "pdh")
    vars(ctypes)["windll"] = SimpleNamespace(**{name: Library() for name in libraries})
    vars(ctypes)["windll"].ole32 = SimpleNamespace(CoInitializeEx=no_call, CoCreateInstance=no_object)
    vars(ctypes)["WINFUNCTYPE"] = ctypes.CFUNCTYPE
    vars(sys)["modules"]["winreg"] = Registry()
    vars(keyring)["get_keyring"] = Credentials
    sys.platform = "win32"


if __name__ == "__main__":
    change()
    from idlebloom.__main__ import main

    sys.exit(main())
