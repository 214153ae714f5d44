"""The first step: what this PC has, and with whom it shall run."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QLabel, QLineEdit, QRadioButton, QVBoxLayout

from core.words import N_, _
from desktop import icons, parts, pc, phrases
from desktop.pc import Pc


class With(StrEnum):
    """With whom."""

    DEMO = "demo"
    ALONE = "alone"
    LINK = "link"
    SWARM = "swarm"


CHOICES = {
    With.DEMO: (
        N_("Try it here"),
        N_(
            "A demo with a tiny model on this PC. Nothing is fetched, nothing leaves it, and closing it "
            "leaves nothing behind."
        ),
    ),
    With.ALONE: (N_("Just this PC"), N_("The largest model that this PC holds alone, for your own chats.")),
    With.LINK: (N_("Join a link"), N_("Someone sent you an invitation to their swarm.")),
    With.SWARM: (N_("Make a swarm"), N_("Begin one, and invite others with a link.")),
}


class WithWhom(QObject):
    """``chose``: one of the choices was made."""

    chose = Signal()

    def __init__(self, this: Pc, offered: Collection[str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.area, page = parts.page(width=680)
        mark = QLabel()
        mark.setPixmap(icons.picture(icons.APP, 72, self.area.devicePixelRatioF()))
        mark.setAccessibleName(phrases.NAME)
        beside = QVBoxLayout()
        beside.setSpacing(2)
        beside.addWidget(parts.label(_("Welcome to Idlebloom"), "hero"))
        beside.addWidget(
            parts.label(
                _(
                    "Chat with large language models that home PCs run together, and lend "
                    "yours while it idles."
                ),
                "soft",
            )
        )
        top = QHBoxLayout()
        top.setSpacing(18)
        top.addWidget(mark)
        top.addLayout(beside, 1)
        page.addLayout(top)
        frame, layout = parts.card(spacing=6)
        layout.addWidget(parts.label(_("This PC"), "heading"))
        layout.addWidget(parts.label(pc.found(this)))
        trouble = pc.lacks(this)
        if trouble:
            layout.addWidget(parts.label(trouble, "soft"))
        page.addWidget(frame)
        frame, layout = parts.card(spacing=4)
        layout.addWidget(parts.label(_("With whom?"), "heading"))
        self._group = QButtonGroup(self.area)
        self.choices: dict[With, QRadioButton] = {}
        for choice, (name, about) in CHOICES.items():
            if choice is With.LINK and "join" not in offered:
                continue
            button = QRadioButton(_(name))
            parts.named(button, _(name), _(about))
            button.clicked.connect(self._chose)
            self._group.addButton(button)
            self.choices[choice] = button
            words = parts.label(_(about), "soft")
            words.setIndent(29)
            layout.addSpacing(4)
            layout.addWidget(button)
            layout.addWidget(words)
        self.link = QLineEdit()
        self.link.setPlaceholderText(_("Paste the link here"))
        parts.named(self.link, _("Invitation link"), _("The link that someone sent you"))
        self.link.hide()
        layout.addWidget(self.link)
        self.demo_words = parts.label(kind="soft")
        self.demo_link = parts.link(_("Open chat"), "")
        layout.addSpacing(8)
        for widget in (self.demo_words, self.demo_link):
            widget.hide()
            layout.addWidget(widget)
        page.addWidget(frame)
        page.addStretch(1)

    @property
    def chosen(self) -> With | None:
        return next((choice for choice, button in self.choices.items() if button.isChecked()), None)

    def say_demo(self, words: str) -> None:
        self.demo_words.setText(words)
        self.demo_words.show()
        self.demo_link.hide()

    def offer_demo(self, url: str) -> None:
        """Its page is opened when it is ready; who has closed it finds it again here."""
        parts.lead(self.demo_link, _("Open chat"), url)
        self.demo_link.show()

    def _chose(self) -> None:
        self.link.setVisible(self.chosen is With.LINK)
        self.chose.emit()
