"""The step before Start: sizes, the licence, when to give, what is left to the owner, what others see."""

from __future__ import annotations

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QButtonGroup, QRadioButton

from core.paths import Paths
from core.settings import DECLARED, Donate
from core.words import _
from desktop import parts, privacy
from desktop.keeper import SettingsKeeper
from desktop.labels import option
from desktop.models import LicenceCard
from desktop.pc import Pc
from desktop.settings_panel import Field


class Terms(QObject):
    def __init__(self, this: Pc, paths: Paths, keeper: SettingsKeeper, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.area, page = parts.page(width=720)
        page.addWidget(parts.label(_("Before it starts"), "title"))
        self.summary = parts.label()
        page.addWidget(self.summary)
        self.licence = LicenceCard(paths)
        self.licence.accepted.connect(self.licence.hide)
        page.addWidget(self.licence)
        self.giving, layout = parts.card()
        layout.addWidget(parts.label(_("When may this PC give?"), "heading"))
        self._when = QButtonGroup(self.area)
        self.when: dict[Donate, QRadioButton] = {}
        for donate in (Donate.WHEN_IDLE, Donate.ALWAYS, Donate.OFF):
            button = QRadioButton(option("donate", donate.value))
            parts.named(button, button.text(), _("When this PC gives to the swarm"))
            self._when.addButton(button)
            self.when[donate] = button
            layout.addWidget(button)
        page.addWidget(self.giving)
        if "leave_vram_gb" in DECLARED and this.gpu is not None:
            frame, layout = parts.card()
            self.leave = Field(DECLARED["leave_vram_gb"], keeper)
            layout.addWidget(self.leave)
            keeper.load(lambda values: self.leave.show_value(values.get("leave_vram_gb")), lambda why: None)
            page.addWidget(frame)
        page.addWidget(parts.label(_(privacy.TITLE), "title"))
        for card in privacy.cards():
            page.addWidget(card)
        page.addStretch(1)

    @property
    def donate(self) -> Donate:
        return next(value for value, button in self.when.items() if button.isChecked())

    def fill(self, summary: str, *, licensed: str, gives: bool) -> None:
        """``licensed`` is the model whose licence counts; ``gives``: whether others may be served at all."""
        self.licence.setVisible(self.licence.needed(licensed))
        self.giving.setVisible(gives)
        if self._when.checkedButton() is None:
            self.when[Donate.WHEN_IDLE].setChecked(True)
        self.summary.setText(summary)
        self.area.verticalScrollBar().setValue(0)
