"""Small makers of widgets that all windows share, so that each has its name, its words and its looks."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QSize, Qt, QTimer
from PySide6.QtWidgets import (
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

WIDTH = 760
"""Lines longer than this are hard to read."""


def label(text: str = "", kind: str = "", *, wrap: bool = True) -> QLabel:
    """Text that a person may select; never taken for HTML."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    made.setWordWrap(wrap)
    # On a long page Qt takes the height that is missing from labels: never more than they have to spare.
    policy = made.sizePolicy()
    policy.setVerticalPolicy(QSizePolicy.Policy.Minimum)
    made.setSizePolicy(policy)
    made.setProperty("kind", kind)
    return made


def link(text: str, address: str) -> QLabel:
    """A link to a page, opened in the browser."""
    made = QLabel()
    made.setTextFormat(Qt.TextFormat.RichText)
    made.setOpenExternalLinks(True)
    made.setTextInteractionFlags(
        Qt.TextInteractionFlag.LinksAccessibleByKeyboard | Qt.TextInteractionFlag.LinksAccessibleByMouse
    )
    lead(made, text, address)
    return made


def lead(made: QLabel, text: str, address: str) -> None:
    """Let a link lead elsewhere."""
    made.setText(f'<a href="{address}">{text}</a>')
    made.setAccessibleName(text)
    made.setAccessibleDescription(address)


def button(
    text: str, then: Callable[[], object] | None = None, kind: str = "", about: str = ""
) -> QPushButton:
    made = QPushButton(text)
    made.setProperty("kind", kind)
    made.setAutoDefault(False)
    named(made, text.replace("&", ""), about)
    if then is not None:
        made.clicked.connect(lambda: then())
    return made


def named(widget: QWidget, name: str, about: str = "") -> QWidget:
    """What a screen reader says of it."""
    widget.setAccessibleName(name)
    widget.setAccessibleDescription(about or name)
    return widget


def card(*, kind: str = "card", spacing: int = 10, margin: int = 20) -> tuple[QFrame, QVBoxLayout]:
    frame = QFrame()
    frame.setProperty("kind", kind)
    layout = QVBoxLayout(frame)
    layout.setContentsMargins(margin, margin, margin, margin)
    layout.setSpacing(spacing)
    return frame, layout


def line() -> QFrame:
    frame = QFrame()
    frame.setProperty("kind", "line")
    return frame


def row(*widgets: QWidget, stretch: bool = True, spacing: int = 10) -> QHBoxLayout:
    """Widgets side by side, the rest of the width empty."""
    made = QHBoxLayout()
    made.setSpacing(spacing)
    for widget in widgets:
        made.addWidget(widget)
    if stretch:
        made.addStretch(1)
    return made


def page(*, width: int = WIDTH, margin: int = 28) -> tuple[QScrollArea, QVBoxLayout]:
    """A page that scrolls, its content in the middle and not too wide."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    outer = _Page()
    outer.setProperty("kind", "page")
    outer.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # a click beside a field leaves it: its text counts
    sides = QHBoxLayout(outer)
    sides.setContentsMargins(margin, margin, margin, margin)
    inner = QWidget()
    inner.setMaximumWidth(width)
    layout = QVBoxLayout(inner)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(16)
    sides.addStretch(1)
    sides.addWidget(inner, 100)
    sides.addStretch(1)
    area.setWidget(outer)
    return area, layout


class _Page(QWidget):
    """As high as its text is at its width. By itself Qt takes what a narrow text would need for the least,
    and shows a bar to scroll by where everything is seen."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802 – Qt's name
        return QSize(super().minimumSizeHint().width(), 0)


def dress_again(widget: QWidget) -> None:
    """After a property that the style sheet looks at has changed."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)


class _Light(QObject):
    """Style sheets cannot tell an item of a focused list from one of any list; a property can."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 – Qt's name
        if isinstance(watched, QWidget) and event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            watched.setProperty("lit", event.type() is QEvent.Type.FocusIn)
            dress_again(watched)
        return False


def lit(widget: QWidget) -> None:
    """Show on its selected item that a list or a row of tabs has the keyboard's focus."""
    widget.installEventFilter(_Light(widget))


def clear(layout: QLayout) -> None:
    """Take everything out of a layout, those within it included."""
    while (item := layout.takeAt(0)) is not None:
        if (widget := item.widget()) is not None:
            widget.hide()
            widget.deleteLater()
        elif isinstance(inner := item.layout(), QBoxLayout):
            clear(inner)


def after(milliseconds: int, parent: QObject, then: Callable[[], None]) -> QTimer:
    """Once, later; not if ``parent`` has gone by then."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.timeout.connect(then)
    timer.start(milliseconds)
    return timer
