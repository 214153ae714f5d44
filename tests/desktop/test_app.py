"""The desktop over a node of make-believe: what is drawn, what is sent, and what happens when things end."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QAbstractButton, QApplication, QMessageBox, QWidget

from core import words
from core.paths import Paths
from core.terms import State
from desktop.app import CONSENTED, App
from desktop.memory import Memory
from desktop.menu import Do, Order
from desktop.notices import JOINED
from desktop.snapshot import Face
from desktop.window import Page
from tests.desktop.door_server import FakeDoor, reason, status

Until = Callable[[Callable[[], object]], None]


def box_of(app: App) -> QMessageBox:
    assert app.window is not None
    return app.window.findChildren(QMessageBox)[-1]


def button(parent: QWidget, text: str) -> QAbstractButton:
    return next(b for b in parent.findChildren(QAbstractButton) if b.text() == text)


def test_everything_is_redrawn_from_the_snapshot(
    make_app: Callable[..., App], door: FakeDoor, until: Until
) -> None:
    """State, reason, progress, figures and events on the page are what the node last said."""
    app = make_app()
    app.show_window()
    assert app.window is not None
    page = app.window.overview
    until(lambda: page.figures[2][0].text() == "120\u202f400")
    assert page.title.text() == "Giving" and page.why.text() == "To 2 readers now."
    assert page.facts["span"].text() == "blocks 3 to 7"
    assert page.figures[0][1].text() == "412 tokens of 9 conversations, 1.2 GB up"
    until(lambda: page.events.count() == 3)
    assert page.events.item(0).text().endswith("Giving.")
    progress = {"phase": "fetching", "done_bytes": 1e9, "total_bytes": 4e9, "seconds_left": 120}
    door.say(status("fetching", progress=progress))
    until(lambda: page.title.text() == "Getting ready")
    assert page.progress.value() == 250 and page.progress_words.text().endswith("2 min left")
    door.say(status("waiting", reason=reason("on_battery")))
    until(lambda: page.why.text() == "Waiting for mains power.")
    assert not page.progress.isVisible()


OFFERED = (
    (status("off", reason=reason("no_consent")), {"consent"}),
    (status("waiting", reason=reason("input", minutes=3)), {"give", "pause"}),
    (status("giving"), {"give", "pause", "finish"}),
    (status("giving", giving_until=0), {"pause", "resume", "finish"}),
    (status("paused", reason=reason("paused")), {"give", "resume"}),
)


def test_only_what_can_be_done_is_offered(make_app: Callable[..., App], door: FakeDoor, until: Until) -> None:
    """The buttons of each state."""
    app = make_app()
    app.show_window()
    assert app.window is not None
    page = app.window.overview

    def offered() -> set[str]:
        names = ("give", "pause", "resume", "finish", "consent")
        return {name for name in names if getattr(page, name).isVisible()}

    for said, shown in OFFERED:
        door.say(said)
        until(lambda shown=shown: offered() == shown)


def test_a_refused_order_is_said(make_app: Callable[..., App], door: FakeDoor, until: Until) -> None:
    """The node's own words come back to the owner."""
    door.refuse_donate = "there is nothing to give with"
    app = make_app()
    app.show_window()
    app.order(Order(Do.GIVE, "1h"))
    until(lambda: app.window is not None and app.window.findChildren(QMessageBox))
    assert box_of(app).text() == "There is nothing to give with."


def test_closing_without_a_tray_asks(
    make_app: Callable[..., App], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an icon to come back to, the window asks: quit, or go on."""
    quits: list[bool] = []
    monkeypatch.setattr(App, "quit", lambda self: quits.append(True))
    app = make_app()
    app.show_window()
    assert app.window is not None
    for text, left in (("Cancel", True), ("Go on", False)):
        app.show_window()
        app.window.close()
        until(lambda: box_of(app).isVisible())
        button(box_of(app), text).click()
        until(lambda left=left: app.window is not None and app.window.isVisible() is left)
        until(lambda: not app.window.findChildren(QMessageBox))
    app.show_window()
    app.window.close()
    button(box_of(app), "Quit").click()
    until(lambda: quits)


def test_a_session_that_ends_is_not_asked(
    make_app: Callable[..., App], qt: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is *Quit*: the window's question is for who closes it."""
    ended: list[int] = []
    monkeypatch.setattr(type(qt), "exit", lambda *code: ended.append(0))
    app = make_app()
    app.show_window()
    QCoreApplication.sendEvent(qt, QEvent(QEvent.Type.Quit))
    assert ended and app.window is not None
    assert app.window.isVisible() and not app.window.findChildren(QMessageBox)


def test_a_node_that_goes_is_said(make_app: Callable[..., App], door: FakeDoor, until: Until) -> None:
    """The face says so, no stale figures stay, and nothing is offered that needs a node."""
    app = make_app()
    app.show_window()
    app.node.gone.emit("the disk is full")
    assert app.window is not None
    page = app.window.overview
    assert page.title.text() == "Not running" and page.why.text().endswith("The disk is full.")
    assert page.facts["readers"].text() == "–" and not page.chat.isEnabled()
    assert app.tray._face is Face.TROUBLE


def test_a_stream_that_breaks_is_opened_again(
    make_app: Callable[..., App], door: FakeDoor, until: Until
) -> None:
    """A node that restarts its door, or hangs up, is followed anew."""
    app = make_app()
    lost: list[bool] = []
    app.client.lost.connect(lambda: lost.append(True))
    assert app.client._stream is not None
    app.client._stream.abort()
    until(lambda: lost and app.snapshot is not None)


def test_another_language_at_once(make_app: Callable[..., App], door: FakeDoor, until: Until) -> None:
    """The setting ``language`` changes every word of the open window, on the page that is open."""
    app = make_app()
    app.show_window(Page.SETTINGS)
    old = app.window
    app.keeper.save({"language": "de"}, lambda settings: app._settings_seen(settings), lambda why: None)
    until(lambda: app.window is not None and app.window is not old)
    assert app.window is not None
    assert app.window.rail.item(1).text() == "Einstellungen" and app.window.page is Page.SETTINGS
    assert words.state(State.PAUSED) == "pausiert"


def test_damaged_files_are_said(
    make_app: Callable[..., App], door: FakeDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that this tray itself found damaged, and what its node says as it starts: as a notification
    where there is an icon, else in a window."""
    told: list[str] = []
    monkeypatch.setattr("desktop.tray.Tray.notify", lambda self, title, text: told.append(text))
    paths = Paths.of()
    paths.settings_file.write_text("{broken")
    Memory(paths.state).keep(JOINED)
    app = make_app(lambda: True)
    assert len(told) == 1 and "kept as settings.json.broken-" in told[0]
    assert told[0].endswith("The default settings are used.")
    app.node.noticed.emit("ledger.json is damaged and was kept as x")
    assert told[1:] == ["Ledger.json is damaged and was kept as x."]
    app.tray.stop()
    app.show_window()
    app.node.noticed.emit("the keyring did not answer")
    assert box_of(app).text() == "The keyring did not answer."


def test_the_node_starts_again_for_settings_that_need_it(
    make_app: Callable[..., App], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for no other."""
    again: list[bool] = []
    app = make_app()
    monkeypatch.setattr(app.node, "restart", lambda: again.append(True))
    saved: list[object] = []
    for name, value, count in (("idle_minutes", 7, 0), ("port", 7800, 1), ("on_battery", True, 1)):
        saved.clear()
        app.keeper.save({name: value}, saved.append, saved.append)
        until(lambda: saved)
        assert len(again) == count, name


def test_notifications_are_rare(
    make_app: Callable[..., App], door: FakeDoor, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined, once ever; trouble, once an hour. Nothing else."""
    told: list[str] = []
    monkeypatch.setattr("desktop.tray.Tray.notify", lambda self, title, text: told.append(title))
    app = make_app()
    for said in (
        status("waiting"),
        status("giving"),
        status("trouble"),
        status("giving"),
        status("trouble"),
        status("paused"),
    ):
        door.say(said)
        until(lambda said=said: app.snapshot is not None and app.snapshot.status.state.value == said["state"])
    assert told == ["This PC gives", "Idlebloom needs you"]


def test_nothing_runs_before_consent(make_app: Callable[..., App], door: FakeDoor, until: Until) -> None:
    """A first run opens the welcome and starts no node; the settings stay untouched."""
    app = make_app(consented=False)
    until(lambda: app.welcome is not None and app.welcome.isVisible())
    time.sleep(0.1)
    assert app.node.pid == 0 and not app.node.owned
    assert CONSENTED not in app.memory and not app.paths.settings_file.exists()
