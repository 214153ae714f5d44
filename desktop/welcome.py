"""The first run: with whom, which model, what is left for the owner, what others see, the licence; Start.

Nothing runs and nothing is fetched before *Start*, but for the demo, which the owner starts by name, and what
it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QUrl, Signal
from PySide6.QtGui import QCloseEvent, QDesktopServices
from PySide6.QtWidgets import QDialog, QHBoxLayout, QScrollArea, QStackedWidget, QVBoxLayout

from core.model.catalogue import known
from core.paths import Paths
from core.settings import BUNDLED, Donate
from core.terms import Progress
from core.words import _, sentence
from desktop import commands, icons, parts, pc, phrases
from desktop.keeper import SettingsKeeper
from desktop.models import Chooser
from desktop.pc import Pc
from desktop.setup_program import SetupProgram
from desktop.steps.demo import Demo
from desktop.steps.done import Done
from desktop.steps.terms import Terms
from desktop.steps.with_whom import With, WithWhom

WHICH, TERMS, DONE = 1, 2, 3
"""Steps after the first."""
JOINED_LICENCE = "bigscience/bloom"
"""Whose licence counts where only the link's swarm knows the model."""


class Welcome(QDialog):
    """``agreed``: the owner said Start, and the settings are saved. ``closed``: the dialog is done with."""

    agreed = Signal()
    closed = Signal()
    give = Signal()
    restart = Signal()
    chat = Signal()
    node = Signal()
    """One is needed now."""

    def __init__(
        self,
        paths: Paths,
        program: list[str],
        keeper: SettingsKeeper,
        offered: frozenset[str],
        *,
        joins_by_node: bool = False,
    ) -> None:
        """``offered``: the commands that there are; what needs another is not shown. ``joins_by_node``: only
        a running node can keep a swarm's secret."""
        super().__init__()
        self._joins_by_node, self._node_runs = joins_by_node, False
        self._link, self._again = "", False
        self._then: Callable[[], None] = self._stay
        self._setup = SetupProgram(parent=self)
        self._setup.moved.connect(self._preparing)
        self._setup.ready.connect(lambda: self._then())
        self._setup.failed.connect(self._failed)
        self._offered = offered
        self.paths, self._program, self._keeper = paths, program, keeper
        self.pc = Pc.read(paths.cache)
        self.model = BUNDLED
        self.started = False
        self.demo = Demo(program, self)
        self.demo.open.connect(lambda url: QDesktopServices.openUrl(QUrl(url)))
        self.demo.ended.connect(self._stay)
        self.setWindowTitle(_("Welcome to Idlebloom"))
        self.setWindowIcon(icons.app())
        self.resize(860, 700)
        self.setMinimumSize(640, 480)
        self.stack = QStackedWidget()
        self.first = WithWhom(self.pc, offered, self)
        self.terms = Terms(self.pc, paths, keeper, self)
        self.last = Done(program, self)
        self.steps = (self.first.area, self._which(), self.terms.area, self.last.area)
        for step in self.steps:
            self.stack.addWidget(step)
        self._follow()
        self.back = parts.button(_("Back"), self._back)
        self.next = parts.button(_("Next"), self._next, "primary")
        self.error = parts.label(kind="error")
        self.error.hide()
        self.words = parts.label(kind="soft")
        self.words.hide()
        foot = QHBoxLayout()
        foot.setContentsMargins(28, 4, 28, 20)
        foot.addWidget(self.error, 1)
        foot.addWidget(self.words, 1)
        foot.addStretch(0)
        foot.addWidget(self.back)
        foot.addWidget(self.next)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.stack, 1)
        layout.addLayout(foot)
        self._turn(0)

    def _which(self) -> QScrollArea:
        area, page = parts.page(width=720)
        page.addWidget(parts.label(_("Which model?"), "title"))
        self.model_words = parts.label(kind="soft")
        page.addWidget(self.model_words)
        self.chooser = Chooser(self.pc)
        self.chooser.picked.connect(self._picked)
        page.addWidget(self.chooser)
        page.addStretch(1)
        return area

    def _follow(self) -> None:
        self.demo.said.connect(self.first.say_demo)
        self.demo.open.connect(self.first.offer_demo)
        self.first.chose.connect(self._chose)
        self.terms.licence.accepted.connect(lambda: self._say_error(""))
        self.last.give.connect(self.give)
        self.last.chat.connect(self.chat)
        self.last.restart.connect(self.restart)

    def node_runs(self) -> None:
        """What needs a node can be done now."""
        self._node_runs = True
        self.last.node_runs()
        if self._link:
            self._join()

    def node_ended(self, why: str) -> None:
        """Who waits for it hears why; it is tried again."""
        self._node_runs = False
        if why:
            self.last.node_ended(why)
        if self._link and why:
            self._link = ""
            self._failed(why)

    # Going through them

    @property
    def chosen(self) -> With | None:
        return self.first.chosen

    def _chose(self) -> None:
        self._then = self._stay  # what was waited for is wanted no more
        self._say("")
        self._say_error("")
        self._turn(0)

    def _turn(self, step: int) -> None:
        self.stack.setCurrentIndex(step)
        self.back.setVisible(0 < step < DONE)
        names = {
            0: _("Start the demo") if self.chosen is With.DEMO else _("Next"),
            TERMS: _("Start"),
            DONE: _("Done"),
        }
        if self.demo.runs and step == 0 and self.chosen is With.DEMO:
            names[0] = _("End the demo")
        self.next.setText(names.get(step, _("Next")))
        self.next.setAccessibleName(self.next.text())
        self.next.setEnabled(step != 0 or self.chosen is not None)
        if step == TERMS:
            self._fill_terms()

    def _stay(self) -> None:
        """On this step, its buttons as they have to be now."""
        self._turn(self.stack.currentIndex())

    def _back(self) -> None:
        self._say_error("")
        step = self.stack.currentIndex()
        self._turn(0 if step == TERMS and self.chosen is With.LINK else step - 1)

    def _next(self) -> None:
        self._say_error("")
        step = self.stack.currentIndex()
        if step == 0:
            self._leave_first()
        elif step == WHICH:
            self._turn(TERMS)
        elif step == TERMS:
            self._start()
        else:
            self.close()

    def _leave_first(self) -> None:
        if self.chosen is With.DEMO:
            self._start_or_end_demo()
        elif self.chosen is With.LINK:
            if not self.first.link.text().strip():
                self._say_error(_("Paste the link that you were sent."))
                self.first.link.setFocus()
                return
            self._turn(TERMS)
        else:
            alone = self.chosen is With.ALONE
            self.model = self.chooser.largest_whole()
            self.chooser.show_choice(self.model)
            self.model_words.setText(
                _("Marked is the largest that this PC holds alone.")
                if alone
                else _("Everyone in the swarm serves this one together.")
            )
            self._turn(WHICH)

    def _picked(self, model: str) -> None:
        self.model = model
        self.chooser.show_choice(model)

    def _start_or_end_demo(self) -> None:
        if self.demo.runs:
            self.next.setEnabled(False)
            self.demo.tell_to_end()
        else:
            self._prepare(self._start_demo)

    def _start_demo(self) -> None:
        self._say("")
        self.demo.start()
        self._turn(0)

    def _prepare(self, then: Callable[[], None]) -> None:
        """Have what a package still has to fetch, then go on."""
        self.next.setEnabled(False)
        self.back.setEnabled(False)
        self._then = then
        self._setup.start()

    def _preparing(self, progress: Progress) -> None:
        if self._then != self._stay:
            self._say(phrases.progress(progress))

    def _fill_terms(self) -> None:
        joins = self.chosen is With.LINK
        self.terms.fill(
            _("The swarm behind the link says which model it serves.") if joins else self._sizes(),
            licensed=JOINED_LICENCE if joins else self.model,
            gives=self.chosen is not With.ALONE,
        )

    def _sizes(self) -> str:
        entry = known(self.model)
        if entry is None:
            return _("The model {name} is on this PC already.").format(name=self.model)
        return f"{entry.model_id}: {pc.holds_in(self.pc.outlook(entry.config), entry.config.blocks)}."

    # What it does

    def _start(self) -> None:
        if self.terms.licence.isVisibleTo(self):
            self._say_error(_("Accept the licence first, or go back and choose another model."))
            self.terms.licence.accept.setFocus()
            return
        if self.chosen is With.LINK:
            self.next.setText(_("Joining…"))
            self._link = self.first.link.text().strip()
            self._prepare(self._join)
        else:
            self._save()

    def _join(self) -> None:
        if self._joins_by_node and not self._node_runs:
            self._say(_("Idlebloom's node starts; this takes some seconds."))
            self.node.emit()
            return
        link, self._link = self._link, ""
        commands.run(self, self._program, ["join", link], self._joined, self._failed)

    def _joined(self, said: Any) -> None:
        self._again = bool(said.get("restart"))
        self._save()

    def _save(self) -> None:
        changes: dict[str, object] = {"donate": self.terms.donate.value}
        if self.chosen is With.ALONE:
            changes = {"donate": Donate.ALWAYS.value, "model": self.model, "swarm": []}
        elif self.chosen is With.SWARM:
            changes |= {"model": self.model, "swarm": []}
        self._keeper.save(changes, self._saved, self._failed)

    def _saved(self, settings: Any) -> None:
        self.demo.end()
        self.started = True
        self.last.fill(
            gives=settings.get("donate") != Donate.OFF.value,
            invites=self.chosen is With.SWARM and "invite" in self._offered,
        )
        self._say("")
        self.back.setEnabled(True)
        self._setup.stop()  # the whole program's own begins now
        self._turn(DONE)
        self.agreed.emit()
        if self._again:
            self.restart.emit()

    def _failed(self, why: str) -> None:
        self._say("")
        self._say_error(sentence(why))
        self.back.setEnabled(True)
        self._stay()

    def _say(self, words: str) -> None:
        self.words.setText(words)
        self.words.setVisible(bool(words))

    def _say_error(self, words: str) -> None:
        self.error.setText(words)
        self.error.setVisible(bool(words))
        self.error.setAccessibleName(words)

    def stop(self) -> None:
        self._setup.stop()
        self.demo.end()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 – Qt's name
        self.stop()
        event.accept()  # QDialog's own asks reject(), which comes back here, and then stays open
        self.closed.emit()

    def reject(self) -> None:
        """Escape closes it as the window's cross does."""
        self.close()
