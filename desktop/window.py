"""The window: a rail of pages on the left, the page on the right."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QCloseEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QListWidget, QMainWindow, QStackedWidget, QWidget

from core.words import N_, _
from desktop import icons, parts, phrases
from desktop.overview import Overview


class Page(IntEnum):
    OVERVIEW = 0
    SETTINGS = 1
    MODELS = 2
    PRIVACY = 3


NAMES = {
    Page.OVERVIEW: N_("Overview"),
    Page.SETTINGS: N_("Settings"),
    Page.MODELS: N_("Models"),
    Page.PRIVACY: N_("What others see"),
}


class Window(QMainWindow):
    """``turned``: a page was opened. ``closing``: the owner closes it; the answer to that is the app's."""

    turned = Signal(object)
    closing = Signal(object)
    shown = Signal()

    def __init__(self, pages: Mapping[Page, QWidget]) -> None:
        super().__init__()
        self.setWindowTitle(phrases.NAME)
        self.setWindowIcon(icons.app())
        self.resize(1000, 760)
        self.setMinimumSize(680, 480)
        self.pages = pages
        self.stack = QStackedWidget()
        self.rail = QListWidget()
        self.rail.setProperty("kind", "rail")
        self.rail.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.rail.setWordWrap(True)
        parts.lit(self.rail)
        parts.named(self.rail, _("Pages"))
        for name, page in pages.items():
            self.stack.addWidget(page)
            self.rail.addItem(_(NAMES[name]))
        self.rail.currentRowChanged.connect(self._turn)
        self._compose()
        self.rail.setCurrentRow(0)

    def _compose(self) -> None:
        whole = QWidget()
        layout = QHBoxLayout(whole)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        side, column = parts.card(kind="rail", margin=14, spacing=12)
        side.setFixedWidth(208)
        mark = QLabel()
        mark.setPixmap(icons.picture(icons.APP, 28, self.devicePixelRatioF()))
        mark.setAccessibleName(phrases.NAME)
        column.addLayout(parts.row(mark, parts.label(phrases.NAME, "brand", wrap=False)))
        column.addWidget(self.rail, 1)
        layout.addWidget(side)
        layout.addWidget(self.stack, 1)
        self.setCentralWidget(whole)

    @property
    def overview(self) -> Overview:
        page = self.pages[Page.OVERVIEW]
        assert isinstance(page, Overview)
        return page

    def open(self, page: Page = Page.OVERVIEW) -> None:
        """Show the window with this page, in front of others."""
        self.rail.setCurrentRow(list(self.pages).index(page))
        self.show()
        self.raise_()
        self.activateWindow()

    @property
    def page(self) -> Page:
        return list(self.pages)[self.stack.currentIndex()]

    def _turn(self, row: int) -> None:
        self.stack.setCurrentIndex(row)
        self.turned.emit(list(self.pages)[row])

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 – Qt's name
        super().showEvent(event)
        self.shown.emit()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 – Qt's name
        self.closing.emit(event)
