"""The icon on a real X11 panel, clicked by a real pointer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from PySide6.QtCore import QPoint, QRect
from PySide6.QtWidgets import QApplication, QMenu

from desktop.app import App
from desktop.host import Hosts
from desktop.menu import Do
from desktop.window import Page
from tests.desktop.door_server import FakeDoor, reason, status
from tests.desktop.hands import point

pytestmark = pytest.mark.xvfb
Until = Callable[[Callable[[], object]], None]


@contextmanager
def panel() -> Iterator[None]:
    """A tray host, without a session bus."""
    line = ["trayer", "--edge", "top", "--align", "right", "--widthtype", "request", "--height", "28"]
    host = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        host.terminate()
        host.wait()


def place(app: App, until: Until) -> QPoint:
    """The middle of the icon, once the panel has put it where it stays."""
    seen: list[QRect] = []

    def settled() -> bool:
        app.tray.look()
        seen.append(app.tray.icon.geometry() if app.tray.icon is not None else QRect())
        same = seen[-15:]
        return (
            len(same) == 15
            and len({(r.x(), r.y(), r.width()) for r in same}) == 1
            and same[0].width() > 4
            and same[0].x() > 0
        )

    def slowly() -> bool:
        time.sleep(0.02)
        return settled()

    until(slowly)
    return seen[-1].center()


def entry(menu: QMenu, text: str) -> tuple[QMenu, QPoint]:
    action = next(a for a in menu.actions() if a.text() == text)
    return menu, menu.mapToGlobal(menu.actionGeometry(action).center())


def choose(app: App, at: QPoint, until: Until, *texts: str) -> None:
    """Open the icon's menu and click through to an entry."""
    point("mousemove", at.x(), at.y(), "click", 3)
    until(app.tray.menu.isVisible)
    menu = app.tray.menu
    for depth, text in enumerate(texts):
        _, where = entry(menu, text)
        point("mousemove", where.x() - 3, where.y(), "mousemove", where.x(), where.y(), "click", 1)
        if depth + 1 < len(texts):
            under = next(a for a in menu.actions() if a.text() == text).menu()
            assert isinstance(under, QMenu)
            until(under.isVisible)
            menu = under
    until(lambda: not app.tray.menu.isVisible())


def test_every_entry_of_the_menu(
    make_app: Callable[..., App], door: FakeDoor, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A click on the icon opens the window; each entry of its menu does what it says."""
    opened: list[str] = []
    monkeypatch.setattr("desktop.app.QDesktopServices.openUrl", lambda url: opened.append(url.path()))
    quits: list[bool] = []
    monkeypatch.setattr(App, "quit", lambda self: quits.append(True))
    with panel():
        app = make_app(Hosts().there)
        at = place(app, until)
        point("mousemove", at.x(), at.y(), "click", 1)
        until(lambda: app.window is not None and app.window.isVisible())
        assert app.window is not None
        app.window.move(100, 200)
        choose(app, at, until, "Open chat")
        assert opened == ["/"]
        for text, length in (("For 15 minutes", "15m"), ("For 1 hour", "1h"), ("Until I stop", None)):
            choose(app, at, until, "Give now", text)
            until(lambda: door.donated)
            assert door.donated.pop() == {"action": "give", "for": length}
        for text, length in (
            ("For 15 minutes", "15m"),
            ("For 1 hour", "1h"),
            ("For 3 hours", "3h"),
            ("Until tomorrow", "tomorrow"),
            ("Until I resume", None),
        ):
            choose(app, at, until, "Pause", text)
            until(lambda: door.donated)
            assert door.donated.pop() == {"action": "pause", "for": length}
        choose(app, at, until, "Finish, then pause")
        until(lambda: door.donated)
        assert door.donated.pop() == {"action": Do.FINISH.value, "for": None}
        choose(app, at, until, "Settings…")
        assert app.window.page is Page.SETTINGS
        choose(app, at, until, "Status…")
        assert app.window.page is Page.OVERVIEW
        door.say(status("paused", reason=reason("paused", until=time.time() + 3590)))
        until(lambda: any(a.text() == "Resume (1 h)" for a in app.tray.menu.actions()))
        choose(app, at, until, "Resume (1 h)")
        until(lambda: door.donated)
        assert door.donated.pop() == {"action": "resume", "for": None}
        choose(app, at, until, "Quit")
        assert quits == [True]


def test_a_host_comes_late_goes_and_returns(make_app: Callable[..., App], until: Until) -> None:
    """The icon follows its panel; while there is none, the window is there instead."""
    app = make_app(Hosts().there)

    def look(visible: bool) -> Callable[[], bool]:
        return lambda: (app.tray.look(), app.tray.visible is visible)[1]

    assert not app.tray.visible
    for _ in range(2):
        with panel():
            until(look(True))
            place(app, until)
            assert app.window is None or not app.window.isVisible()
        until(look(False))
        until(lambda: app.window is not None and app.window.isVisible())
        assert app.window is not None
        app.window.hide()


def test_the_screen_shows_the_state(
    make_app: Callable[..., App], door: FakeDoor, until: Until, qt: QApplication
) -> None:
    """What is drawn on the panel changes with the state."""
    with panel():
        app = make_app(Hosts().there)
        at = place(app, until)

        def seen() -> bytes:
            shot = qt.primaryScreen().grabWindow(0, at.x() - 11, at.y() - 11, 22, 22).toImage()
            return bytes(shot.constBits())

        giving = seen()
        door.say(status("paused", reason=reason("paused")))
        until(lambda: seen() != giving)
