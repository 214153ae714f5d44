"""Nothing is said in one language only, and nothing is cut off where a language needs more room."""

from __future__ import annotations

import gettext
from collections.abc import Callable, Iterator
from pathlib import Path

import polib
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QListWidget,
    QScrollArea,
    QTabWidget,
    QWidget,
)

from assets.words import LOCALE, messages
from core import words
from desktop import privacy
from desktop.app import App
from desktop.menu import Do, Order
from desktop.settings_panel import SettingsPanel
from desktop.steps.with_whom import With
from desktop.window import Page
from tests.desktop.door_server import FakeDoor

Until = Callable[[Callable[[], object]], None]
GERMAN = LOCALE / "de" / "LC_MESSAGES" / "idlebloom.po"
OPEN, CLOSE = "⟦", "⟧"


class Pseudo(gettext.NullTranslations):
    """English between brackets, 30 % longer."""

    def gettext(self, message: str) -> str:
        more = ("~~~~ " * len(message))[: len(message) * 3 // 10 + 1]
        return f"{OPEN}{message}{more}{CLOSE}"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)


def test_german_is_whole() -> None:
    """Every text of the desktop is there in German, with the same gaps to fill in. A few of other parts may
    be newer than the translation: ``python -m assets.words`` names them."""
    known = {(e.msgid, e.msgid_plural): e for e in polib.pofile(str(GERMAN))}
    there = messages()
    missing = [m for m in there if m not in known or not known[m].translated()]
    assert [m for m in missing if there[m].startswith("desktop/")] == []
    assert len(missing) < 0.1 * len(there), missing
    for entry in known.values():
        for said in entry.msgstr_plural.values() or [entry.msgstr]:
            if said:
                assert gaps(said) == gaps(entry.msgid), entry.msgid


def gaps(text: str) -> set[str]:
    return {part.partition("}")[0] for part in text.split("{")[1:]}


def test_what_is_read_is_what_was_translated(tmp_path: Path) -> None:
    """The compiled file is made from the one that people edit."""
    polib.pofile(str(GERMAN)).save_as_mofile(str(tmp_path / "made.mo"))
    made = {(e.msgid, e.msgstr) for e in polib.mofile(str(tmp_path / "made.mo"))}
    assert made == {(e.msgid, e.msgstr) for e in polib.mofile(str(GERMAN.with_suffix(".mo")))}


def test_the_privacy_page_is_what_the_first_run_shows() -> None:
    """docs/privacy.md is written by ``python -c "from desktop.privacy import as_markdown; …(False)"``."""
    page = Path(__file__).resolve().parents[2] / "docs" / "privacy.md"
    assert page.read_text(encoding="utf-8") == privacy.as_markdown(translate=False)


@pytest.fixture
def pseudo(qt: QApplication) -> Iterator[None]:
    words.use(Pseudo())
    qt.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
    yield
    qt.setLayoutDirection(Qt.LayoutDirection.LeftToRight)
    words.use("en")


def test_longer_words_from_right_to_left(
    make_app: Callable[..., App], door: FakeDoor, until: Until, pseudo: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a language that is 30 % longer and runs the other way, no page of window or first run has a text
    that was left in English, or that does not fit where it stands."""
    monkeypatch.setattr("core.words.translation", lambda language="auto": Pseudo())
    app = make_app()
    app.show_window()
    assert app.window is not None
    panel = app.window.pages[Page.SETTINGS]
    assert isinstance(panel, SettingsPanel)
    app.window.resize(900, 700)
    for page in Page:
        app.show_window(page)
        until(lambda: panel.values)
        if page is Page.SETTINGS:
            for tab in range(panel.tabs.count()):
                panel.tabs.setCurrentIndex(tab)
                check(app.window)
        check(app.window)
    for entry in app.tray.menu.actions():
        assert not entry.text() or OPEN in entry.text(), entry.text()
    app.show_welcome()
    assert app.welcome is not None
    app.welcome.first.choices[With.SWARM].click()
    check(app.welcome)
    for _ in range(2):
        app.welcome.next.click()
        check(app.welcome)
    app.welcome._saved({"donate": "always"})
    check(app.welcome)
    app.order(Order(Do.STATUS))


def check(window: QWidget) -> None:
    """Every text that is seen now."""
    QTest.qWait(60)  # layouts settle in their own time
    for widget in window.findChildren(QWidget):
        if not widget.isVisible():
            continue
        text = text_of(widget)
        if text and any(c.isalpha() for c in text) and not is_a_name(text):
            assert OPEN in text, f"not translated: {text!r} ({type(widget).__name__})"
        if isinstance(widget, QLabel) and text and widget.textFormat() is Qt.TextFormat.PlainText:
            needed = (
                widget.heightForWidth(widget.width()) if widget.wordWrap() else widget.sizeHint().height()
            )
            assert widget.height() >= needed - 1, f"cut off below: {text!r}"
            if not widget.wordWrap():
                assert widget.width() >= widget.sizeHint().width() - 1, f"cut off: {text!r}"
        if isinstance(widget, QAbstractButton) and text:
            assert widget.width() >= widget.minimumSizeHint().width() - 1, f"cut off: {text!r}"
        if isinstance(widget, QScrollArea) and widget.widget() is not None:
            wide = max(
                widget.findChildren(QWidget),
                key=lambda w: w.minimumSizeHint().width() if w.isVisible() and not w.layout() else 0,
            )
            assert widget.widget().width() <= widget.viewport().width() + 1, (
                f"too wide: {text_of(wide) or wide}"
            )


def text_of(widget: QWidget) -> str:
    if isinstance(widget, QLabel | QAbstractButton):
        return widget.text()
    if isinstance(widget, QComboBox):
        return widget.currentText()
    if isinstance(widget, QTabWidget):
        return widget.tabText(widget.currentIndex())
    if isinstance(widget, QListWidget) and widget.count():
        return widget.item(0).text()
    if isinstance(widget, QLineEdit):
        return widget.placeholderText()
    return ""


def is_a_name(text: str) -> bool:
    """Names of models, sizes and units are the same in every language."""
    plain = text.replace("\u202f", "").strip()
    names = (
        "Idlebloom",
        "bigscience/",
        "560m",
        "1b1",
        "1b7",
        "3b",
        "7b1",
        "176B",
        "m@1/",
        "English",
        "Deutsch",
    )
    return plain.startswith(names) or plain.replace(".", "").split(" ")[0].isdigit()
