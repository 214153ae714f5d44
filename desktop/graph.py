"""What was given day by day, as bars and, for whoever prefers or needs it, as a table."""

from __future__ import annotations

import datetime as dt

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QHeaderView,
    QSizePolicy,
    QStackedWidget,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from core.words import _, several, size
from desktop import parts, style
from desktop.snapshot import Day, Given

DAYS = 14


def today() -> dt.date:
    """By this PC's clock and zone."""
    return dt.datetime.now().astimezone().date()


def recent(days: tuple[Day, ...], until: dt.date) -> tuple[Day, ...]:
    """The last days up to today, those without anything included."""
    known = {day.date: day.given for day in days}
    dates = [(until - dt.timedelta(days=back)).isoformat() for back in reversed(range(DAYS))]
    return tuple(Day(date, known.get(date, Given())) for date in dates)


def scale(most: int) -> int:
    """A round number of tokens at the top: 1, 2 or 5 times a power of ten."""
    top = 10
    while top < most:
        for factor in (2, 5, 10):
            if top * factor >= most:
                return top * factor
        top *= 10
    return top


class Bars(QWidget):
    """One bar a day, tokens upwards."""

    def __init__(self) -> None:
        super().__init__()
        self._days: tuple[Day, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumHeight(150)
        parts.named(self, _("Tokens given on each of the last days"))

    def sizeHint(self) -> QSize:  # noqa: N802 – Qt's name
        return QSize(400, 150)

    def show_days(self, days: tuple[Day, ...]) -> None:
        self._days = days
        total = sum(day.given.tokens for day in days)
        self.setAccessibleDescription(
            several(
                "{count} token in these days; the table has each day.",
                "{count} tokens in these days; the table has each day.",
                total,
            )
        )
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 – Qt's name
        if not self._days:
            return
        c = style.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.layoutDirection() is Qt.LayoutDirection.RightToLeft:
            painter.translate(self.width(), 0)
            painter.scale(-1, 1)
        foot = 22.0
        high = self.height() - foot - 18
        top = scale(max(day.given.tokens for day in self._days))
        self._ruler(painter, c, high, top)
        wide = self.width() / len(self._days)
        for index, day in enumerate(self._days):
            tall = max(high * day.given.tokens / top, 2.0)
            thick = min(wide * 0.62, 34)
            bar = QRectF(wide * (index + 0.5) - thick / 2, 18 + high - tall, thick, tall)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(c.petals[index % 6] if day.given.tokens else c.line))
            painter.drawRoundedRect(bar, min(5, tall / 2), min(5, tall / 2))
            if index % 2 == (len(self._days) - 1) % 2:
                text = _("{day}/{month}").format(day=int(day.date[8:]), month=int(day.date[5:7]))
                _text(
                    painter,
                    self,
                    QRectF(wide * index - wide / 2, self.height() - foot, wide * 2, foot),
                    text,
                    c.soft,
                )
        painter.end()

    def _ruler(self, painter: QPainter, c: style.Colours, high: float, top: int) -> None:
        painter.setPen(QPen(QColor(c.line), 1))
        for part in (0.0, 0.5, 1.0):
            y = 18 + high * (1 - part)
            painter.drawLine(QPointF(0, y), QPointF(self.width(), y))
        _text(
            painter,
            self,
            QRectF(0, 0, 120, 16),
            f"{top:,}".replace(",", "\u202f"),
            c.soft,
            align=Qt.AlignmentFlag.AlignLeft,
        )


def _text(
    painter: QPainter,
    widget: QWidget,
    where: QRectF,
    text: str,
    colour: str,
    *,
    align: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignHCenter,
) -> None:
    """Text, not mirrored where the picture is."""
    painter.save()
    if widget.layoutDirection() is Qt.LayoutDirection.RightToLeft:
        painter.translate(where.left() * 2 + where.width(), 0)
        painter.scale(-1, 1)
    font = widget.font()
    font.setPointSizeF(8.5)
    painter.setFont(font)
    painter.setPen(QColor(colour))
    painter.drawText(where, align | Qt.AlignmentFlag.AlignVCenter, text)
    painter.restore()


class History(QWidget):
    """The bars, with the table behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.bars = Bars()
        self.table = QTableWidget(0, 5)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.setHorizontalHeaderLabels(
            [_("Day"), _("Tokens"), _("Conversations"), _("Sent"), _("Hours")]
        )
        self.table.setTabKeyNavigation(False)
        self.table.setMinimumHeight(220)
        parts.named(self.table, _("What was given on each of the last days"))
        self._stack = QStackedWidget()
        self._stack.setProperty("kind", "clear")
        self._stack.addWidget(self.bars)
        self._stack.addWidget(self.table)
        self.switch = parts.button(
            _("Show as a table"), self._turn, "flat", _("The same figures, readable one by one")
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)
        layout.addLayout(parts.row(self.switch))
        self._fit()

    def show_days(self, days: tuple[Day, ...]) -> None:
        self.bars.show_days(days)
        self.table.setRowCount(len(days))
        for row, day in enumerate(reversed(days)):
            given = day.given
            cells = (
                day.date,
                str(given.tokens),
                str(given.conversations),
                size(given.up_bytes),
                f"{given.hours:.1f}",
            )
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(row, column, item)

    def _turn(self) -> None:
        self._stack.setCurrentIndex(1 - self._stack.currentIndex())
        text = _("Show as a graph") if self._stack.currentIndex() else _("Show as a table")
        self.switch.setText(text)
        self.switch.setAccessibleName(text)
        self._fit()

    def _fit(self) -> None:
        """The stack is as high as what it shows, not as its highest page."""
        self._stack.setFixedHeight(230 if self._stack.currentIndex() else 150)
