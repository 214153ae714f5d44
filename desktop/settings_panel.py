"""The settings, made from their declarations: each with its label, its plain explanation and its editor.

A change goes to the node at once; what the node refuses is said beside the field, and what was typed stays
there to be mended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QTabWidget, QVBoxLayout, QWidget

from core.declare import Section, Setting
from core.settings import DECLARED
from core.words import _
from desktop import parts
from desktop.editors import Editor, editor_for
from desktop.labels import SECTIONS, about

SAVED_MS = 2500


class Keeper(Protocol):
    """Where settings are read and changed: the node's door, or the file while there is no node."""

    def load(self, done: Callable[[Any], None], failed: Callable[[str], None]) -> None: ...

    def save(
        self, changes: Mapping[str, object], done: Callable[[Any], None], failed: Callable[[str], None]
    ) -> None: ...


class Field(QFrame):
    """One setting: label, help, editor, and below it why a value was refused."""

    def __init__(self, setting: Setting, keeper: Keeper) -> None:
        super().__init__()
        self.setting, self._keeper = setting, keeper
        self.editor: Editor = editor_for(setting)
        self.editor.changed.connect(self.save)
        self.label = parts.label(_(setting.label), "heading")
        self.label.setBuddy(self.editor.controls()[0])
        self.help = parts.label(about(setting), "soft")
        self.error = parts.label(kind="error")
        self.error.setAccessibleName(_("{name}: refused").format(name=_(setting.label)))
        self.error.hide()
        words = _("Saved") if setting.live else _("Saved; used when the node has started again")
        self.saved = parts.label(words, "saved", wrap=False)
        self.saved.setVisible(False)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(0, 4, 0, 4)
        self.body.setSpacing(5)
        self.body.addWidget(self.label)
        self.body.addWidget(self.help)
        beside = parts.row(self.editor, self.saved, stretch=False)
        beside.setStretch(0, 1)
        self.body.addLayout(beside)
        self.body.addWidget(self.error)

    def show_value(self, value: Any) -> None:
        self.editor.show_value(value)
        self.refuse("")

    def save(self) -> None:
        try:
            value = self.editor.value()
        except ValueError as error:
            self.refuse(str(error))
            return
        self.offer({self.setting.name: value})

    def offer(self, changes: Mapping[str, object]) -> None:
        self._keeper.save(changes, self._took, self.refuse_or_explain)

    def _took(self, settings: Any) -> None:
        self.refuse("")
        if isinstance(settings, Mapping) and self.setting.name in settings:
            self.editor.show_value(settings[self.setting.name])
        self.saved.setVisible(True)
        parts.after(SAVED_MS, self, lambda: self.saved.setVisible(False))

    def refuse_or_explain(self, why: str) -> None:
        self.refuse(why or _("Idlebloom's node does not run; try again in a moment."))

    def refuse(self, why: str) -> None:
        """Tie an error to the field, or take it away."""
        why = why[:1].upper() + why[1:]
        self.error.setText(why)
        self.error.setVisible(bool(why))
        self.error.setAccessibleDescription(why)
        self.editor.mark(bool(why))
        help_words = about(self.setting)
        main = self.editor.controls()[0]
        main.setAccessibleDescription(f"{why} {help_words}" if why else help_words)


Extra = Callable[["SettingsPanel", Field], QWidget]
"""Something to be shown below a setting: its live use, a picker."""


class SettingsPanel(QWidget):
    """All settings by section. ``loaded`` carries them whenever they were read or changed here."""

    loaded = Signal(object)

    def __init__(self, keeper: Keeper, extras: Mapping[str, Extra] | None = None) -> None:
        super().__init__()
        self._keeper = _Telling(keeper, self._took)
        self.values: dict[str, Any] = {}
        self.fields: dict[str, Field] = {}
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setExpanding(False)
        self.tabs.tabBar().setDrawBase(False)
        self.tabs.tabBar().setUsesScrollButtons(True)
        parts.lit(self.tabs.tabBar())
        parts.named(self.tabs, _("Settings by section"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(28, 16, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(parts.label(_("Settings"), "title"))
        layout.addWidget(self.tabs, 1)
        for section in Section:
            mine = [setting for setting in DECLARED.values() if setting.section is section]
            if mine:
                self._add(section, mine, extras or {})

    def _add(self, section: Section, settings: list[Setting], extras: Mapping[str, Extra]) -> None:
        area, page = parts.page(margin=4)
        frame, layout = parts.card(spacing=14)
        for setting in settings:
            if layout.count():
                layout.addWidget(parts.line())
            field = Field(setting, self._keeper)
            self.fields[setting.name] = field
            if setting.name in extras:
                field.body.addWidget(extras[setting.name](self, field))
            layout.addWidget(field)
        page.addSpacing(6)
        page.addWidget(frame)
        page.addStretch(1)
        area.setAccessibleName(_(SECTIONS[section]))
        self.tabs.addTab(area, _(SECTIONS[section]))

    @property
    def keeper(self) -> Keeper:
        return self._keeper

    def refresh(self) -> None:
        """Read all settings anew: another program may have changed them."""
        self._keeper.load(self._took, lambda why: None)

    def _took(self, settings: Any) -> None:
        if not isinstance(settings, Mapping):
            return
        before, self.values = self.values, dict(settings)
        for name, field in self.fields.items():
            if name in settings and (name not in before or before[name] != settings[name]):
                field.show_value(settings[name])
        self.loaded.emit(self.values)

    def show_setting(self, name: str) -> None:
        """Bring one setting into sight, with the focus on it."""
        field = self.fields[name]
        for index in range(self.tabs.count()):
            if (tab := self.tabs.widget(index)) is not None and tab.isAncestorOf(field):
                self.tabs.setCurrentIndex(index)
        field.editor.controls()[0].setFocus(Qt.FocusReason.ShortcutFocusReason)


class _Telling:
    """A keeper that tells the panel what came of each change, whoever made it."""

    def __init__(self, keeper: Keeper, took: Callable[[Any], None]) -> None:
        self._keeper, self._took = keeper, took

    def load(self, done: Callable[[Any], None], failed: Callable[[str], None]) -> None:
        self._keeper.load(done, failed)

    def save(
        self, changes: Mapping[str, object], done: Callable[[Any], None], failed: Callable[[str], None]
    ) -> None:
        def both(settings: Any) -> None:
            done(settings)
            self._took(settings)

        self._keeper.save(changes, both, failed)
