"""Choosing a model: BLOOM and BLOOMZ in all sizes with what this PC could hold of each, or a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QFileDialog, QGridLayout, QRadioButton, QVBoxLayout, QWidget

from core.errors import DiskError
from core.model.catalogue import CATALOGUE, LICENCE, LICENCE_LINK, Published, known
from core.node.licences import SUMMARY, Licences
from core.paths import Paths
from core.settings import BUNDLED
from core.words import _, size
from desktop import parts, pc
from desktop.pc import Pc
from desktop.settings_panel import Keeper

if TYPE_CHECKING:
    from desktop.extras import Live


class Chooser(QWidget):
    """``picked``: the value for the setting ``model``."""

    picked = Signal(str)

    def __init__(self, this: Pc) -> None:
        super().__init__()
        self._pc = this
        self._group = QButtonGroup(self)
        self.buttons: dict[str, QRadioButton] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(16)
        for chats, heading in ((True, _("BLOOMZ: answers questions")), (False, _("BLOOM: continues text"))):
            layout.addWidget(self._family(heading, [one for one in CATALOGUE if one.chats is chats]))
        layout.addWidget(self._others())

    def _family(self, heading: str, models: list[Published]) -> QWidget:
        frame, layout = parts.card()
        layout.addWidget(parts.label(heading, "heading"))
        grid = QGridLayout()
        grid.setHorizontalSpacing(18)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(2, 1)
        for line, model in enumerate(models):
            outlook = self._pc.outlook(model.config)
            words = _("This PC: {holds}").format(holds=pc.holds(outlook, model.config.blocks))
            button = self._button(model.model_id, model.size, f"{size(outlook.size)}. {words}")
            grid.addWidget(button, line, 0)
            grid.addWidget(parts.label(size(outlook.size), "soft", wrap=False), line, 1)
            grid.addWidget(parts.label(words, "soft"), line, 2)
            grid.addWidget(parts.link(_("About"), model.link), line, 3)
        layout.addLayout(grid)
        licence = parts.link(_("Licence: {name}").format(name=LICENCE), LICENCE_LINK)
        layout.addWidget(licence)
        return frame

    def _others(self) -> QWidget:
        frame, layout = parts.card()
        layout.addWidget(parts.label(_("Others"), "heading"))
        layout.addWidget(
            self._button(BUNDLED, _("The small demo model that comes with Idlebloom"), "14 MB, Apache-2.0")
        )
        self.folder = parts.button(
            _("A folder on this PC…"),
            self._choose_folder,
            "",
            _("A folder with a Hugging Face checkpoint of BLOOM in safetensors files"),
        )
        self.chosen_folder = parts.label(kind="soft")
        self.folder.setVisible(pc.shares_folders())
        layout.addLayout(parts.row(self.folder))
        layout.addWidget(self.chosen_folder)
        return frame

    def _button(self, value: str, text: str, about: str) -> QRadioButton:
        button = QRadioButton(text)
        parts.named(button, value if value != BUNDLED else text, about)
        button.clicked.connect(lambda: self.picked.emit(value))
        self._group.addButton(button)
        self.buttons[value] = button
        return button

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, _("A folder with a BLOOM checkpoint"), str(Path.home())
        )
        if folder:
            self.picked.emit(folder)

    def show_choice(self, value: str) -> None:
        """Mark what is chosen; a folder has words of its own."""
        entry = known(value)
        name = entry.model_id if entry is not None else value
        self._group.setExclusive(False)
        for key, button in self.buttons.items():
            button.setChecked(key == name)
        self._group.setExclusive(True)
        self.chosen_folder.setText("" if name in self.buttons else _("Chosen: {value}").format(value=value))
        self.chosen_folder.setVisible(name not in self.buttons)

    def largest_whole(self) -> str:
        """The largest BLOOMZ that this PC holds alone, else the bundled model."""
        fitting = [one for one in CATALOGUE if one.chats and self._pc.outlook(one.config).whole]
        return fitting[-1].model_id if fitting else BUNDLED


class LicenceCard(QWidget):
    """The licence of BLOOM, to be accepted once. ``accepted`` when it was."""

    accepted = Signal()

    def __init__(self, paths: Paths) -> None:
        super().__init__()
        self._licences = Licences(paths.licences_file)
        frame, layout = parts.card()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(frame)
        layout.addWidget(parts.label(_("The licence of BLOOM restricts what it may be used for"), "heading"))
        layout.addWidget(parts.label(_(SUMMARY), "soft"))
        layout.addWidget(parts.link(_("Read the licence"), LICENCE_LINK))
        self.accept = parts.button(
            _("I accept the licence"),
            self._accept,
            "primary",
            _("Needed once, for all sizes of BLOOM and BLOOMZ"),
        )
        self.error = parts.label(kind="error")
        self.error.hide()
        layout.addLayout(parts.row(self.accept))
        layout.addWidget(self.error)

    def needed(self, model: str) -> bool:
        try:
            return known(model) is not None and not self._licences.accepted(LICENCE)
        except DiskError:
            return True

    def _accept(self) -> None:
        try:
            self._licences.accept(LICENCE)
        except DiskError as error:
            self.error.setText(str(error))
            self.error.show()
            return
        self.accepted.emit()


class ModelsPage(QWidget):
    """The window's page of models: a click chooses, after the licence where that is needed."""

    def __init__(self, keeper: Keeper, live: Live) -> None:
        super().__init__()
        self._keeper, self._wanted = keeper, ""
        self._current = ""
        area, page = parts.page()
        area.setAccessibleName(_("Models"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)
        page.addWidget(parts.label(_("Models"), "title"))
        self.error = parts.label(kind="error")
        self.error.hide()
        page.addWidget(self.error)
        self.licence = LicenceCard(live.paths)
        self.licence.accepted.connect(self._accepted)
        self.licence.hide()
        page.addWidget(self.licence)
        self.chooser = Chooser(live.pc)
        self.chooser.picked.connect(self.choose)
        page.addWidget(self.chooser)
        page.addStretch(1)
        self._area = area

    def choose(self, model: str) -> None:
        self._wanted = model
        self._refuse("")
        if self.licence.needed(model):
            self.licence.show()
            self._area.verticalScrollBar().setValue(0)
            self.licence.accept.setFocus()
            return
        self._keeper.save({"model": model}, lambda settings: None, self._refuse)

    def _accepted(self) -> None:
        self.licence.hide()
        self.choose(self._wanted)

    def _refuse(self, why: str) -> None:
        self.error.setText(why[:1].upper() + why[1:])
        self.error.setVisible(bool(why))
        if why:
            self.chooser.show_choice(self._current)
            self._area.verticalScrollBar().setValue(0)

    def show_settings(self, settings: Mapping[str, Any]) -> None:
        self._current = str(settings.get("model", ""))
        if not self.licence.isVisible():
            self.chooser.show_choice(self._current)
