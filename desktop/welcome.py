"""The first run: with whom, which model, what is left for the owner, what others see, the licence; Start.

Nothing runs and nothing is fetched before *Start*, but for the demo, which the owner starts by name.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from PySide6.QtCore import QProcess, QUrl, Signal
from PySide6.QtGui import QCloseEvent, QDesktopServices
from PySide6.QtWidgets import (
    QApplication,
    QButtonGroup,
    QDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QRadioButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from core.model.catalogue import known
from core.paths import Paths
from core.settings import BUNDLED, DECLARED, Donate
from core.words import N_, _
from desktop import commands, icons, parts, pc, phrases, privacy
from desktop.flow import Flow
from desktop.keeper import SettingsKeeper
from desktop.labels import option
from desktop.models import Chooser, LicenceCard
from desktop.node_process import end_group, environment
from desktop.pc import Pc
from desktop.settings_panel import Field

DEMO_ENDS_MS = 15_000
"""What a demo that was told to end gets for it."""


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


class Welcome(QDialog):
    """``agreed``: the owner said Start, and the settings are saved. ``closed``: the dialog is done with."""

    agreed = Signal()
    closed = Signal()
    give = Signal()
    restart = Signal()
    chat = Signal()

    def __init__(
        self, paths: Paths, program: list[str], keeper: SettingsKeeper, offered: frozenset[str]
    ) -> None:
        """``offered``: the commands that there are; what needs another is not shown."""
        super().__init__()
        self._offered = offered
        self.paths, self._program, self._keeper = paths, program, keeper
        self.pc = Pc.read(paths.cache)
        self.model = BUNDLED
        self._demo: QProcess | None = None
        self.started = False
        self.setWindowTitle(_("Welcome to Idlebloom"))
        self.setWindowIcon(icons.app())
        self.resize(860, 700)
        self.setMinimumSize(640, 480)
        self.stack = QStackedWidget()
        self.steps = (self._with(), self._model(), self._terms(), self._done())
        for step in self.steps:
            self.stack.addWidget(step)
        self.back = parts.button(_("Back"), self._back)
        self.next = parts.button(_("Next"), self._next, "primary")
        self.error = parts.label(kind="error")
        self.error.hide()
        foot = QHBoxLayout()
        foot.setContentsMargins(28, 4, 28, 20)
        foot.addWidget(self.error, 1)
        foot.addStretch(0)
        foot.addWidget(self.back)
        foot.addWidget(self.next)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.stack, 1)
        layout.addLayout(foot)
        self._turn(0)

    # The steps

    def _with(self) -> QWidget:
        area, page = parts.page(width=680)
        mark = QLabel()
        mark.setPixmap(icons.picture(icons.APP, 72, self.devicePixelRatioF()))
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
        layout.addWidget(parts.label(pc.found(self.pc)))
        trouble = pc.lacks(self.pc)
        if trouble:
            layout.addWidget(parts.label(trouble, "soft"))
        page.addWidget(frame)
        frame, layout = parts.card(spacing=4)
        layout.addWidget(parts.label(_("With whom?"), "heading"))
        self._group = QButtonGroup(self)
        self.choices: dict[With, QRadioButton] = {}
        for choice, (name, about) in CHOICES.items():
            if choice is With.LINK and "join" not in self._offered:
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
        self.demo_words.hide()
        layout.addWidget(self.demo_words)
        page.addWidget(frame)
        page.addStretch(1)
        return area

    def _model(self) -> QWidget:
        area, page = parts.page(width=720)
        page.addWidget(parts.label(_("Which model?"), "title"))
        self.model_words = parts.label(kind="soft")
        page.addWidget(self.model_words)
        self.chooser = Chooser(self.pc)
        self.chooser.picked.connect(self._picked)
        page.addWidget(self.chooser)
        page.addStretch(1)
        return area

    def _terms(self) -> QWidget:
        area, page = parts.page(width=720)
        self._terms_area = area
        page.addWidget(parts.label(_("Before it starts"), "title"))
        self.summary = parts.label()
        page.addWidget(self.summary)
        self.licence = LicenceCard(self.paths)
        self.licence.accepted.connect(self._licence_accepted)
        page.addWidget(self.licence)
        self.giving, layout = parts.card()
        layout.addWidget(parts.label(_("When may this PC give?"), "heading"))
        self._when = QButtonGroup(self)
        self.when: dict[Donate, QRadioButton] = {}
        for donate in (Donate.WHEN_IDLE, Donate.ALWAYS, Donate.OFF):
            button = QRadioButton(option("donate", donate.value))
            parts.named(button, button.text(), _("When this PC gives to the swarm"))
            self._when.addButton(button)
            self.when[donate] = button
            layout.addWidget(button)
        page.addWidget(self.giving)
        if "leave_vram_gb" in DECLARED and self.pc.gpu is not None:
            frame, layout = parts.card()
            self.leave = Field(DECLARED["leave_vram_gb"], self._keeper)
            layout.addWidget(self.leave)
            self._keeper.load(
                lambda values: self.leave.show_value(values.get("leave_vram_gb")), lambda why: None
            )
            page.addWidget(frame)
        page.addWidget(parts.label(_(privacy.TITLE), "title"))
        for card in privacy.cards():
            page.addWidget(card)
        page.addStretch(1)
        return area

    def _done(self) -> QWidget:
        area, page = parts.page(width=680)
        page.addWidget(parts.label(_("Idlebloom runs"), "hero"))
        self.done_words = parts.label()
        page.addWidget(self.done_words)
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
        page.addWidget(self.invitation)
        page.addStretch(1)
        return area

    # Going through them

    @property
    def chosen(self) -> With | None:
        return next((choice for choice, button in self.choices.items() if button.isChecked()), None)

    def _chose(self) -> None:
        self.link.setVisible(self.chosen is With.LINK)
        self._say_error("")
        self._turn(0)

    def _turn(self, step: int) -> None:
        self.stack.setCurrentIndex(step)
        self.back.setVisible(0 < step < 3)
        names = {
            0: _("Start the demo") if self.chosen is With.DEMO else _("Next"),
            2: _("Start"),
            3: _("Done"),
        }
        if self._demo is not None and step == 0 and self.chosen is With.DEMO:
            names[0] = _("End the demo")
        self.next.setText(names.get(step, _("Next")))
        self.next.setAccessibleName(self.next.text())
        self.next.setEnabled(step != 0 or self.chosen is not None)
        if step == 2:
            self._fill_terms()

    def _back(self) -> None:
        self._say_error("")
        self._turn(
            0
            if self.stack.currentIndex() == 2 and self.chosen is With.LINK
            else self.stack.currentIndex() - 1
        )

    def _next(self) -> None:
        self._say_error("")
        step = self.stack.currentIndex()
        if step == 0:
            self._leave_first()
        elif step == 1:
            self._turn(2)
        elif step == 2:
            self._start()
        else:
            self.close()

    def _leave_first(self) -> None:
        if self.chosen is With.DEMO:
            self._tell_demo_to_end() if self._demo is not None else self._start_demo()
        elif self.chosen is With.LINK:
            if not self.link.text().strip():
                self._say_error(_("Paste the link that you were sent."))
                self.link.setFocus()
                return
            self._turn(2)
        else:
            alone = self.chosen is With.ALONE
            self.model = self.chooser.largest_whole()
            self.chooser.show_choice(self.model)
            self.model_words.setText(
                _("Marked is the largest that this PC holds alone.")
                if alone
                else _("Everyone in the swarm serves this one together.")
            )
            self._turn(1)

    def _picked(self, model: str) -> None:
        self.model = model
        self.chooser.show_choice(model)

    def _fill_terms(self) -> None:
        joins = self.chosen is With.LINK
        self.licence.setVisible(self.licence.needed("bigscience/bloom" if joins else self.model))
        self.giving.setVisible(self.chosen is not With.ALONE)
        if self._when.checkedButton() is None:
            self.when[Donate.WHEN_IDLE].setChecked(True)
        self.summary.setText(
            _("The swarm behind the link says which model it serves.") if joins else self._sizes()
        )
        self._terms_area.verticalScrollBar().setValue(0)

    def _sizes(self) -> str:
        entry = known(self.model)
        if entry is None:
            return _("The model {name} is on this PC already.").format(name=self.model)
        outlook = self.pc.outlook(entry.config)
        words = f"{entry.model_id}: {pc.holds(outlook, entry.config.blocks)}"
        return f"{words}, {pc.minutes(outlook.fetch)}." if outlook.fetch else f"{words}."

    def _licence_accepted(self) -> None:
        self.licence.hide()
        self._say_error("")

    # What it does

    def _start(self) -> None:
        if self.licence.isVisibleTo(self):
            self._say_error(_("Accept the licence first, or go back and choose another model."))
            self.licence.accept.setFocus()
            return
        if self.chosen is With.LINK:
            self.next.setEnabled(False)
            self.next.setText(_("Joining…"))
            commands.run(
                self,
                self._program,
                ["join", self.link.text().strip()],
                lambda said: self._save(),
                self._failed,
            )
        else:
            self._save()

    def _save(self) -> None:
        donate = next(value for value, button in self.when.items() if button.isChecked())
        changes: dict[str, object] = {"donate": donate.value}
        if self.chosen is With.ALONE:
            changes = {"donate": Donate.ALWAYS.value, "model": self.model, "swarm": []}
        elif self.chosen is With.SWARM:
            changes |= {"model": self.model, "swarm": []}
        self._keeper.save(changes, self._saved, self._failed)

    def _saved(self, settings: Any) -> None:
        self._end_demo()
        self.started = True
        gives = settings.get("donate") != Donate.OFF.value
        self.done_words.setText(
            _("Its icon is in the tray. What it fetches, and when it gives, is shown in its window.")
            if gives
            else _("Its icon is in the tray. This PC gives nothing; you can chat.")
        )
        self.give_now.setVisible(gives)
        self.invitation.setVisible(self.chosen is With.SWARM and "invite" in self._offered)
        self._turn(3)
        self.agreed.emit()

    def _failed(self, why: str) -> None:
        self._say_error(phrases.sentence(why))
        self._turn(self.stack.currentIndex())

    def _say_error(self, words: str) -> None:
        self.error.setText(words)
        self.error.setVisible(bool(words))
        self.error.setAccessibleName(words)

    def _invite(self) -> None:
        self.make_link.setEnabled(False)
        self.invite_words.setText(_("Testing whether others can reach this PC…"))
        commands.run(self, self._program, ["invite"], self._invited, self._not_invited)

    def _invited(self, said: Any) -> None:
        self.make_link.setEnabled(True)
        self.invite_link.setText(str(said.get("link", "")))
        self.invite_link.show()
        self.copy_link.show()
        words = f"{said.get('reach', '')}. {said.get('fix', '')}".strip(" .")
        self.invite_words.setText(phrases.sentence(words))
        if said.get("restart"):
            self.restart.emit()

    def _not_invited(self, why: str) -> None:
        self.make_link.setEnabled(True)
        self.invite_words.setText(phrases.sentence(why))

    def _copy(self) -> None:
        QApplication.clipboard().setText(self.invite_link.text())

    # The demo

    def _start_demo(self) -> None:
        process = QProcess(self)
        process.setProgram(self._program[0])
        process.setArguments([*self._program[1:], "demo", "--json", "--no-browser"])
        process.setProcessEnvironment(environment())
        parameters = QProcess.UnixProcessParameters()
        parameters.flags = QProcess.UnixProcessFlag.CreateNewSession
        process.setUnixProcessParameters(parameters)
        process.readyReadStandardOutput.connect(lambda: self._demo_said(process))
        process.finished.connect(lambda: self._demo_ended(process))
        self._demo = process
        self._say_demo(_("The demo starts…"))
        process.start()
        self._turn(0)

    def _demo_said(self, process: QProcess) -> None:
        for line in bytes(process.readAllStandardOutput().data()).splitlines():
            try:
                url = str(json.loads(line)["url"])
            except (ValueError, KeyError, TypeError):
                continue
            self._say_demo(_("The demo runs at {url}, until you end it here.").format(url=url))
            QDesktopServices.openUrl(QUrl(url))

    def _demo_ended(self, process: QProcess) -> None:
        if process is self._demo:
            self._demo = None
            self._say_demo(_("The demo has ended."))
            self._turn(self.stack.currentIndex())

    def _say_demo(self, words: str) -> None:
        self.demo_words.setText(words)
        self.demo_words.show()

    def _tell_demo_to_end(self) -> None:
        """In good order, and without anybody waiting."""
        process = self._demo
        if process is not None:
            self._say_demo(_("The demo ends…"))
            self.next.setEnabled(False)
            process.terminate()
            parts.after(DEMO_ENDS_MS, self, lambda: self._end_demo() if process is self._demo else None)

    def _end_demo(self) -> None:
        """At once, at the latest after a few seconds."""
        process, self._demo = self._demo, None
        if process is None:
            return
        group = process.processId()
        process.terminate()
        if not process.waitForFinished(6000):
            process.kill()
        end_group(group)
        self._say_demo(_("The demo has ended."))
        self._turn(self.stack.currentIndex())

    def stop(self) -> None:
        self._end_demo()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 – Qt's name
        self._end_demo()
        event.accept()  # QDialog's own asks reject(), which comes back here, and then stays open
        self.closed.emit()

    def reject(self) -> None:
        """Escape closes it as the window's cross does."""
        self.close()
