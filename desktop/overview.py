"""The window's first page: what this PC gives now and gave before, what happened, and the buttons for it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QMenu,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from core.terms import State
from core.words import N_, _, size
from desktop import icons, parts, phrases
from desktop.flow import Flow
from desktop.graph import History, recent, today
from desktop.menu import Do, Order, lengths
from desktop.snapshot import Face, Happening, Ledger, Snapshot
from desktop.tray import fill

EVENTS = 20
TIMES = (N_("Today"), N_("Last 7 days"), N_("All time"))


class Overview(QWidget):
    """``draw`` shows a snapshot; ``ordered`` carries what was clicked."""

    ordered = Signal(object)
    bundle_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        area, self._page = parts.page()
        area.setAccessibleName(_("Overview"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)
        self._page.addWidget(self._hero())
        self._page.addWidget(self._now())
        self._page.addWidget(self._given())
        self._page.addWidget(self._events())
        self._page.addLayout(self._foot())
        self._page.addStretch(1)
        self._snapshot: Snapshot | None = None

    # Making

    def _hero(self) -> QWidget:
        frame, layout = parts.card(spacing=14, margin=24)
        self.face = QLabel()
        self.face.setFixedSize(84, 84)
        self.title = parts.label(kind="hero")
        self.why = parts.label(kind="soft")
        beside = QVBoxLayout()
        beside.setSpacing(2)
        beside.addStretch(1)
        beside.addWidget(self.title)
        beside.addWidget(self.why)
        beside.addStretch(1)
        top = QHBoxLayout()
        top.setSpacing(20)
        top.addWidget(self.face)
        top.addLayout(beside, 1)
        layout.addLayout(top)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress_words = parts.label(kind="small")
        layout.addWidget(self.progress)
        layout.addWidget(self.progress_words)
        self.chat = self._order_button(
            Do.CHAT, _("Open chat"), "primary", _("Opens the chat page in your browser")
        )
        self.give = self._menu_button(Do.GIVE, _("Give now"), _("Give although you are here, for a time"))
        self.pause = self._menu_button(Do.PAUSE, _("Pause"), _("Give nothing for a time"))
        self.resume = self._order_button(Do.RESUME, _("Resume"), "", _("End the pause, or giving now"))
        self.finish = self._order_button(
            Do.FINISH,
            _("Finish, then pause"),
            "",
            _("Takes no new readers, and pauses when the last has gone"),
        )
        self.consent = self._order_button(Do.SETTINGS, _("Choose when to give…"), "", _("Opens the settings"))
        layout.addLayout(Flow(self.chat, self.give, self.pause, self.resume, self.finish, self.consent))
        return frame

    def _order_button(self, do: Do, text: str, kind: str, about: str) -> QPushButton:
        return parts.button(text, lambda: self.ordered.emit(Order(do)), kind, about)

    def _menu_button(self, do: Do, text: str, about: str) -> QPushButton:
        made = parts.button(text, None, "menu", about)
        menu = QMenu(made)
        fill(menu, lengths(do), self.ordered.emit)
        made.setMenu(menu)
        return made

    def _now(self) -> QWidget:
        frame, layout = parts.card()
        layout.addWidget(parts.label(_("Now"), "heading"))
        grid = QGridLayout()
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(7)
        grid.setColumnStretch(1, 1)
        self.facts: dict[str, QLabel] = {}
        for line, (name, text) in enumerate(
            (
                ("swarm", _("Swarm")),
                ("span", _("This PC holds")),
                ("readers", _("Readers")),
                ("speed", _("Speed")),
                ("memory", _("Memory")),
                ("network", _("Network")),
            )
        ):
            caption = parts.label(text, "soft", wrap=False)
            value = parts.label()
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            parts.named(value, text)
            grid.addWidget(caption, line, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(value, line, 1)
            self.facts[name] = value
        layout.addLayout(grid)
        self.map = self._order_button(
            Do.SWARM, _("Show the swarm map"), "flat", _("Opens the map in your browser")
        )
        layout.addLayout(parts.row(self.map))
        return frame

    def _given(self) -> QWidget:
        frame, layout = parts.card(spacing=14)
        layout.addWidget(parts.label(_("Given"), "heading"))
        columns = QHBoxLayout()
        columns.setSpacing(20)
        self.figures: list[tuple[QLabel, QLabel]] = []
        for time_ in TIMES:
            column = QVBoxLayout()
            column.setSpacing(2)
            caption, figure, words = (
                parts.label(_(time_), "soft"),
                parts.label(kind="figure"),
                parts.label(kind="small"),
            )
            for widget in (caption, figure, words):
                column.addWidget(widget)
            column.addStretch(1)
            columns.addLayout(column, 1)
            self.figures.append((figure, words))
        layout.addLayout(columns)
        self.history = History()
        layout.addWidget(self.history)
        return frame

    def _events(self) -> QWidget:
        frame, layout = parts.card()
        layout.addWidget(parts.label(_("What happened"), "heading"))
        self.events = QListWidget()
        self.events.setProperty("kind", "plain")
        self.events.setWordWrap(True)
        self.events.setMinimumHeight(190)
        self.events.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        parts.named(self.events, _("The last events, the newest first"))
        layout.addWidget(self.events)
        return frame

    def _foot(self) -> QHBoxLayout:
        self.bundle = parts.button(
            _("Save a support bundle…"),
            self.bundle_wanted.emit,
            "flat",
            _("A file with settings, status and logs for whoever helps you; no secrets, no chats"),
        )
        return parts.row(self.bundle)

    # Drawing

    def draw(self, snapshot: Snapshot | None, trouble: str = "") -> None:
        """``None``: there is no node yet, or it went; ``trouble`` says what about it."""
        self._snapshot = snapshot
        has = snapshot is not None
        for widget in (self.chat, self.map):
            widget.setEnabled(has)
        if snapshot is None:
            self._draw_none(trouble)
            return
        self.face.setPixmap(icons.picture(snapshot.face.value, 84, self.devicePixelRatioF()))
        self.face.setAccessibleName(phrases.title(snapshot))
        self.title.setText(phrases.title(snapshot))
        self.why.setText(phrases.why(snapshot))
        self._draw_progress(snapshot)
        self._draw_buttons(snapshot)
        self._draw_facts(snapshot)

    def _draw_none(self, trouble: str) -> None:
        self.face.setPixmap(
            icons.picture((Face.TROUBLE if trouble else Face.WORKING).value, 84, self.devicePixelRatioF())
        )
        self.title.setText(_("Not running") if trouble else _("Starting"))
        self.why.setText(trouble or _("Idlebloom's node starts in the background."))
        for widget in (
            self.give,
            self.pause,
            self.resume,
            self.finish,
            self.consent,
            self.progress,
            self.progress_words,
        ):
            widget.hide()
        for value in self.facts.values():
            value.setText("–")

    def _draw_progress(self, snapshot: Snapshot) -> None:
        progress = snapshot.status.progress
        self.progress.setVisible(progress is not None)
        self.progress_words.setVisible(progress is not None)
        if progress is not None:
            known = progress.total_bytes > 0
            self.progress.setRange(0, 1000 if known else 0)
            if known:
                self.progress.setValue(min(1000, 1000 * progress.done_bytes // progress.total_bytes))
            words = phrases.progress(progress)
            self.progress_words.setText(words)
            parts.named(self.progress, words)

    def _draw_buttons(self, snapshot: Snapshot) -> None:
        status, paused = snapshot.status, snapshot.paused
        off = status.state is State.OFF
        giving_now = snapshot.giving_until is not None
        self.consent.setVisible(off)
        self.give.setVisible(not off and not giving_now)
        self.pause.setVisible(not off and not paused)
        self.resume.setVisible(paused or giving_now)
        text = _("Resume") if paused else _("Stop giving now")
        self.resume.setText(text)
        self.resume.setAccessibleName(text)
        self.finish.setVisible(status.state is State.GIVING)

    def _draw_facts(self, snapshot: Snapshot) -> None:
        status = snapshot.status
        model = status.swarm.model
        facts = {
            "swarm": f"{model}: {phrases.swarm(snapshot)}" if model else phrases.swarm(snapshot),
            "span": phrases.held(status) or _("nothing now"),
            "readers": str(status.sessions),
            "speed": _("{count} tokens/s").format(count=f"{status.rates.tokens:.1f}"),
            "memory": _("{used} of {cap} allowed").format(
                used=size(status.vram.used), cap=size(status.vram.cap)
            )
            if status.vram.cap
            else size(status.vram.used),
            "network": _("{up} up, {down} down").format(
                up=phrases.rate(status.rates.up), down=phrases.rate(status.rates.down)
            ),
        }
        for name, text in facts.items():
            self.facts[name].setText(text)
            self.facts[name].setAccessibleDescription(text)

    def draw_ledger(self, ledger: Ledger) -> None:
        for (figure, words), given in zip(self.figures, (ledger.today, ledger.week, ledger.all), strict=True):
            figure.setText(f"{given.tokens:,}".replace(",", "\u202f"))
            words.setText(phrases.given(given))
        until = today()
        self.history.show_days(recent(ledger.days, until))

    def draw_events(self, events: tuple[Happening, ...]) -> None:
        lines = [
            f"{phrases.moment(event.at)}   {words}"
            for event in events[:EVENTS]
            if (words := phrases.happening(event))
        ] or [_("Nothing has happened yet.")]
        if lines != [self.events.item(row).text() for row in range(self.events.count())]:
            self.events.clear()
            self.events.addItems(lines)
