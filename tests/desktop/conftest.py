"""One QApplication for all of these tests: on a virtual X display where there is one, else off the screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest
import shiboken6
from PySide6.QtCore import QCoreApplication, QEvent, QEventLoop
from PySide6.QtWidgets import QApplication

from core import words
from core.paths import Paths
from core.preferences import Preferences
from desktop import style
from desktop.app import CONSENTED, App
from desktop.memory import Memory
from desktop.start import Application
from tests.desktop.door_server import FakeDoor

LIMIT = 10.0
STUB = """print('{"layers": [{"name": "m@1/nf4", "size": 5000}]}')"""
"""What stands for Idlebloom's other commands here: starting those takes seconds."""


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """The name of a virtual X display, empty without Xvfb."""
    if shutil.which("Xvfb") is None:
        yield ""
        return
    reads, writes = os.pipe()
    line = ["Xvfb", "-displayfd", str(writes), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(line, pass_fds=(writes,), stderr=subprocess.DEVNULL)
    os.close(writes)
    with os.fdopen(reads) as said:
        number = said.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait()


@pytest.fixture(autouse=True)
def on_display(display: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this PC's desktop nor its session bus is touched."""
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb" if display else "offscreen")
    if display:
        monkeypatch.setenv("DISPLAY", display)


@pytest.fixture(scope="session")
def _applications() -> Iterator[dict[str, QApplication]]:
    """Ended here: at the interpreter's own end Python and Qt take each other's objects away in any order,
    which aborts the process now and then."""
    made: dict[str, QApplication] = {}
    yield made
    if "app" in made:
        app = made.pop("app")
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        app.processEvents()
        shiboken6.delete(app)


@pytest.fixture
def qt(
    on_display: None, _applications: dict[str, QApplication], monkeypatch: pytest.MonkeyPatch
) -> Iterator[QApplication]:
    """The application. An error in a slot fails the test that it happened in."""
    errors: list[BaseException] = []

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        errors.append(error)

    monkeypatch.setattr(sys, "excepthook", hook)
    words.use("en")
    if not _applications:
        app = Application(["Idlebloom"])
        app.setQuitOnLastWindowClosed(False)
        style.dress(app)
        _applications["app"] = app
    yield _applications["app"]
    for widget in QApplication.topLevelWidgets():
        widget.hide()
        widget.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    QApplication.processEvents()
    words.use("en")
    assert errors == []


@pytest.fixture
def until(qt: QApplication) -> Callable[..., None]:
    """Lets Qt run until something is so."""

    def wait(so: Callable[[], object], seconds: float = LIMIT) -> None:
        end = time.monotonic() + seconds
        while not so():
            assert time.monotonic() < end, "it never came"
            qt.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
            time.sleep(0.005)

    return wait


@pytest.fixture
def door() -> Iterator[FakeDoor]:
    made = FakeDoor()
    yield made
    made.close()


@pytest.fixture
def paths(home: Path) -> Paths:
    return Paths.of().make()


@pytest.fixture
def make_app(
    qt: QApplication, door: FakeDoor, paths: Paths, until: Callable[[Callable[[], object]], None]
) -> Iterator[Callable[..., App]]:
    """The desktop over a fake node that runs already, the first run behind it."""
    apps: list[App] = []

    def make(there: Callable[[], bool] = lambda: False, *, consented: bool = True) -> App:
        if consented:
            Memory(paths.state).keep(CONSENTED)
            door.running(os.getpid()).write(paths.door_file)
        program = [sys.executable, "-S", "-c", STUB]
        app = App(
            paths, program, lambda: Preferences(paths.settings_file), there, frozenset({"invite", "join"})
        )
        apps.append(app)
        app.start()
        if consented:
            until(lambda: app.snapshot is not None)
        return app

    yield make
    for app in apps:
        app.stop()
        app.deleteLater()
