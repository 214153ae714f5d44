"""The last step: it runs; give now, chat, and a link for others."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QApplication, QLineEdit

from core.words import _, sentence
from desktop import commands, parts
from desktop.flow import Flow


class Done(QObject):
    """``program`` makes the link. ``restart``: the node has to start again for it."""

    give = Signal()
    chat = Signal()
    restart = Signal()

    def __init__(self, program: list[str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._program = program
        self._again = False
        self.area, page = parts.page(width=680)
        page.addWidget(parts.label(_("Idlebloom runs"), "hero"))
        self.words = parts.label()
        page.addWidget(self.words)
        frame, layout = parts.card()
        layout.addWidget(parts.label(_("See it working"), "heading"))
        layout.addWidget(
            parts.label(
                _(
                    "Give now starts at once, although you are here. Pause in the tray's menu takes "
                    "everything back within a second."
                ),
                "soft",
            )
        )
        self.give_now = parts.button(
            _("Give now for 15 minutes"), self.give.emit, "primary", _("Gives although you are here")
        )
        self.open_chat = parts.button(
            _("Open chat"), self.chat.emit, "", _("Opens the chat page in your browser")
        )
        self.starting = parts.label(_("Idlebloom's node starts; this takes some seconds."), "soft")
        layout.addWidget(self.starting)
        layout.addLayout(Flow(self.give_now, self.open_chat))
        page.addWidget(frame)
        self.invitation, layout = parts.card()
        layout.addWidget(parts.label(_("Invite others"), "heading"))
        self.invite_words = parts.label(
            _("The link names this PC's swarm. It also tests whether others can reach it."), "soft"
        )
        layout.addWidget(self.invite_words)
        self.invite_link = QLineEdit()
        self.invite_link.setReadOnly(True)
        self.invite_link.hide()
        parts.named(self.invite_link, _("Invitation link"), _("Send it to whoever may join"))
        layout.addWidget(self.invite_link)
        self.make_link = parts.button(
            _("Make a link"), self._invite, "", _("Makes an invitation and tests reachability")
        )
        self.copy_link = parts.button(_("Copy"), self._copy, "", _("Copies the link"))
        self.copy_link.hide()
        layout.addLayout(parts.row(self.make_link, self.copy_link))
        for button in (self.give_now, self.open_chat, self.make_link):
            button.setEnabled(False)
        page.addWidget(self.invitation)
        page.addStretch(1)

    def node_ended(self, why: str) -> None:
        """It is tried again by itself."""
        self.starting.setText(
            _("Idlebloom's node ended. It is started again in a moment.") + " " + sentence(why)
        )
        self.starting.show()
        for button in (self.give_now, self.open_chat, self.make_link):
            button.setEnabled(False)

    def node_runs(self) -> None:
        """What needs a node can be done now."""
        self.starting.hide()
        for button in (self.give_now, self.open_chat, self.make_link):
            button.setEnabled(True)
        if self._again:
            self._again = False
            self._invite()

    def fill(self, *, gives: bool, invites: bool) -> None:
        self.words.setText(
            _("Its icon is in the tray. What it fetches, and when it gives, is shown in its window.")
            if gives
            else _("Its icon is in the tray. This PC gives nothing; you can chat.")
        )
        self.give_now.setVisible(gives)
        self.invitation.setVisible(invites)

    def _invite(self) -> None:
        self.make_link.setEnabled(False)
        self.invite_words.setText(_("Testing whether others can reach this PC…"))
        commands.run(self, self._program, ["invite"], self._invited, self._not_invited)

    def _invited(self, said: Any) -> None:
        if said.get("restart"):  # the first link makes the secret, and this PC is reached only with it
            self._again = True
            self.invite_words.setText(_("Idlebloom's node starts again as part of a private swarm…"))
            self.restart.emit()
            return
        self.make_link.setEnabled(True)
        self.invite_link.setText(str(said.get("link", "")))
        self.invite_link.show()
        self.copy_link.show()
        words = f"{said.get('reach', '')}. {said.get('fix', '')}".strip(" .")
        self.invite_words.setText(sentence(words))

    def _not_invited(self, why: str) -> None:
        self.make_link.setEnabled(True)
        self.invite_words.setText(sentence(why))

    def _copy(self) -> None:
        QApplication.clipboard().setText(self.invite_link.text())
