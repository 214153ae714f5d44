"""One editor a kind of setting: how its value is shown and changed by mouse and by keyboard.

An editor says ``changed`` when the owner is done with a change (Enter, leaving the field, a click), and then
has a ``value`` as JSON has it, or raises ``ValueError`` with words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QWheelEvent
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLineEdit, QWidget

from core.declare import Setting
from core.kinds import Choice, Decimal, Switch, Whole
from core.words import _
from desktop import parts
from desktop.labels import about, limits, option


class Editor(QWidget):
    """Common to all: ``changed``, ``show_value``, ``value``."""

    changed = Signal()

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(8)

    def show_value(self, value: Any) -> None:
        """Show a value as JSON has it; says nothing of a change."""
        raise NotImplementedError

    def value(self) -> Any:
        raise NotImplementedError

    def controls(self) -> tuple[QWidget, ...]:
        """What takes the keyboard's focus, the main one first."""
        raise NotImplementedError

    def mark(self, wrong: bool) -> None:
        """Show, beyond the words beside it, that the value was refused."""
        main = self.controls()[0]
        main.setProperty("wrong", wrong)
        parts.dress_again(main)


class SwitchEditor(Editor):
    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.box = QCheckBox()
        self.box.clicked.connect(self.changed)
        self._layout.addWidget(self.box)
        self._layout.addStretch(1)

    def show_value(self, value: Any) -> None:
        self.box.setChecked(bool(value))

    def value(self) -> Any:
        return self.box.isChecked()

    def controls(self) -> tuple[QWidget, ...]:
        return (self.box,)


class Combo(QComboBox):
    """Does not change when the page is scrolled under it."""

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 – Qt's name
        event.ignore()


class ChoiceEditor(Editor):
    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.combo = Combo()
        assert isinstance(setting.kind, Choice)
        for value in setting.kind.options:
            self.combo.addItem(option(setting.name, str(value)), str(value))
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(26)
        self.combo.activated.connect(self.changed)
        self._layout.addWidget(self.combo)
        self._layout.addStretch(1)

    def show_value(self, value: Any) -> None:
        self.combo.setCurrentIndex(self.combo.findData(str(value)))

    def value(self) -> Any:
        return self.combo.currentData()

    def controls(self) -> tuple[QWidget, ...]:
        return (self.combo,)


class Line(QLineEdit):
    """Text that counts when one leaves it or presses Enter, and Escape takes back."""

    entered = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._shown = ""
        self.editingFinished.connect(self._finished)

    def show_text(self, text: str) -> None:
        self._shown = text
        self.setText(text)
        self.setCursorPosition(0)

    def _finished(self) -> None:
        if self.text() != self._shown:
            self._shown = self.text()
            self.entered.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 – Qt's name
        if event.key() == Qt.Key.Key_Escape and self.text() != self._shown:
            self.setText(self._shown)
        else:
            super().keyPressEvent(event)


class TextEditor(Editor):
    """Any kind that can be typed."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.line = Line()
        self.line.entered.connect(self.changed)
        self._layout.addWidget(self.line, 1)

    def show_value(self, value: Any) -> None:
        self.line.show_text(self.setting.kind.text(tuple(value) if isinstance(value, list) else value))

    def value(self) -> Any:
        try:
            parsed = self.setting.kind.parse(self.line.text())
        except ValueError:
            raise ValueError(limits(self.setting.kind)) from None
        return list(parsed) if isinstance(parsed, tuple) else parsed

    def controls(self) -> tuple[QWidget, ...]:
        return (self.line,)

    def add(self, text: str, then: Callable[[], object], about: str) -> None:
        """A button behind the field."""
        self._layout.addWidget(parts.button(text, then, "", about))


class NumberEditor(Editor):
    """A number with its unit, steps down and up, and a switch for "none chosen" where the kind has one."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        assert isinstance(setting.kind, Whole | Decimal)
        self._kind = setting.kind
        unset = setting.kind.unset if isinstance(setting.kind, Decimal) else ""
        self.line = Line()
        self.line.setFixedWidth(110)
        self.line.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.line.entered.connect(self.changed)
        self.line.installEventFilter(self)
        self.less = parts.button(
            "−", lambda: self._step(-1), "step", _("{name}: less").format(name=_(setting.label))
        )
        self.more = parts.button(
            "+", lambda: self._step(1), "step", _("{name}: more").format(name=_(setting.label))
        )
        self.less.setAccessibleName(self.less.accessibleDescription())
        self.more.setAccessibleName(self.more.accessibleDescription())
        for widget in (self.less, self.line, self.more):
            self._layout.addWidget(widget)
        if setting.unit:
            self._layout.addWidget(parts.label(_(setting.unit), "soft", wrap=False))
        self.unset: QCheckBox | None = None
        if unset:
            self.unset = QCheckBox(option(setting.name, unset))
            self.unset.clicked.connect(self._unset)
            self._layout.addSpacing(10)
            self._layout.addWidget(self.unset)
        self._layout.addStretch(1)

    def show_value(self, value: Any) -> None:
        if self.unset is not None:
            self.unset.setChecked(value is None)
        self._enable(value is not None)
        if value is not None:
            self.line.show_text(self._kind.text(value))
        elif not self.line.text():
            self.line.show_text("")

    def value(self) -> Any:
        if self.unset is not None and self.unset.isChecked():
            return None
        try:
            return self._kind.parse(self.line.text())
        except ValueError:
            raise ValueError(limits(self._kind)) from None

    def controls(self) -> tuple[QWidget, ...]:
        return (self.line, self.less, self.more, *((self.unset,) if self.unset is not None else ()))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 – Qt's name
        if isinstance(event, QKeyEvent) and event.type() is QEvent.Type.KeyPress:
            steps = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1, Qt.Key.Key_PageUp: 10, Qt.Key.Key_PageDown: -10}
            if event.key() in steps:
                self._step(steps[Qt.Key(event.key())])
                return True
        return super().eventFilter(watched, event)

    def _step(self, count: int) -> None:
        number = self._number()
        by = 1 if isinstance(self._kind, Whole) or self._kind.high > 2 else 0.1
        stepped = min(max(number + count * by, self._kind.low), self._kind.high)
        self.line.show_text(f"{round(stepped, 3):g}" if by < 1 or stepped % 1 else f"{stepped:.0f}")
        self.changed.emit()

    def _number(self) -> float:
        try:
            return float(self.line.text().replace(",", "."))
        except ValueError:
            return self._start()

    def _start(self) -> float:
        """A number to begin with where none was chosen."""
        default = self.setting.default
        return float(default) if default is not None else min(max(self._kind.low, 2.0), self._kind.high)

    def _unset(self, unset: bool) -> None:
        self._enable(not unset)
        if not unset and not self.line.text():
            self.line.show_text(f"{self._start():g}")
        self.changed.emit()

    def _enable(self, on: bool) -> None:
        for widget in (self.line, self.less, self.more):
            widget.setEnabled(on)


def editor_for(setting: Setting) -> Editor:
    """The editor of a setting's kind; one that nobody knows is typed as on the command line."""
    kind = setting.kind
    made: Editor
    if isinstance(kind, Switch):
        made = SwitchEditor(setting)
    elif isinstance(kind, Choice):
        made = ChoiceEditor(setting)
    elif isinstance(kind, Whole | Decimal):
        made = NumberEditor(setting)
    else:
        made = TextEditor(setting)
    name = _(setting.label)
    main, *others = made.controls()
    parts.named(main, name, about(setting))
    for other in others:
        if isinstance(other, QCheckBox):
            parts.named(other, f"{name}: {other.text()}", about(setting))
    return made
