"""The desktop as a whole: who owns what, and how a snapshot reaches everything that is drawn from it.

The node process is found or started, the client follows it, each snapshot redraws icon, menu and window;
a click sends only what changed. One thread, Qt's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from PySide6.QtCore import QObject, QTimer, QUrl
from PySide6.QtGui import QCloseEvent, QDesktopServices
from PySide6.QtWidgets import QApplication, QWidget

from core import words
from core.paths import Paths
from core.preferences import Preferences
from core.settings import DECLARED
from core.terms import Because, Progress, State, Status
from core.words import _, sentence
from desktop import boxes, phrases
from desktop.bundle_file import save_bundle
from desktop.client import Client
from desktop.extras import EXTRAS, Live
from desktop.keeper import SettingsKeeper
from desktop.memory import Memory
from desktop.menu import TO_NODE, Do, Order, build
from desktop.models import ModelsPage
from desktop.node_process import NodeProcess
from desktop.notices import Notices
from desktop.overview import Overview
from desktop.past import Past
from desktop.privacy import PrivacyPage
from desktop.settings_panel import SettingsPanel
from desktop.setup_program import SetupProgram
from desktop.snapshot import Face, Happening, Ledger, Snapshot
from desktop.teller import Teller
from desktop.tray import Tray
from desktop.welcome import Welcome
from desktop.window import Page, Window
from desktop.wsl import Wsl
from desktop.wsl_node import WslNode

CONSENTED = "consented"
TICK_MS = 15_000
"""Times left on the screen are renewed so often, and what was given while the window is open."""
SETUP_AGAIN_MS = 60_000
"""What a package could not fetch is tried again after so long: most such troubles are a network's."""
FIRST_LOOK_MS = 4000
"""A panel that is slow to start gets so long before the window opens instead."""


class App(QObject):
    """Composes the parts. ``program`` starts Idlebloom; ``preferences`` opens the settings file.
    ``offered`` are the commands that it has. ``wsl``: on Windows, what the node runs in."""

    def __init__(
        self,
        paths: Paths,
        program: list[str],
        preferences: Callable[[], Preferences],
        there: Callable[[], bool],
        offered: frozenset[str],
        *,
        wsl: Wsl | None = None,
    ) -> None:
        super().__init__()
        self.paths, self._program, self._offered = paths, program, offered
        self.memory = Memory(paths.state)
        self.client = Client(self)
        self.setup = SetupProgram(parent=self)
        self.node = NodeProcess(paths, program, self) if wsl is None else WslNode(paths, wsl, self)
        self.teller = Teller(self.client, self) if wsl is not None else None
        self.keeper = SettingsKeeper(self.client, preferences, self._saved)
        self.tray = Tray(there, self)
        self.live = Live(paths, program, self)
        self.past = Past(self.client, self._draw_ledger, self._draw_happenings)
        self.snapshot: Snapshot | None = None
        self.trouble = ""
        self.window: Window | None = None
        self.welcome: Welcome | None = None
        self.notices = Notices(self.tray, self.memory, lambda: self.window)
        opened = preferences()
        self.language = opened.settings.language.value
        self._notice = opened.notice
        words.use(self.language)
        self._tick = QTimer(self)
        self._tick.setInterval(TICK_MS)
        self._tick.timeout.connect(self._ticked)
        self._connect()

    def _connect(self) -> None:
        self.setup.moved.connect(self._setting_up)
        self.setup.ready.connect(self.node.start)
        self.setup.failed.connect(self._not_set_up)
        self.node.found.connect(self._found)
        self.node.gone.connect(self._gone)
        self.node.noticed.connect(self.notices.tell)
        self.client.seen.connect(self._saw)
        self.client.lost.connect(self._lost)
        self.tray.ordered.connect(self.order)
        self.tray.clicked.connect(lambda: self.order(Order(Do.STATUS)))
        self.tray.shown.connect(self._host_changed)

    @property
    def consented(self) -> bool:
        return CONSENTED in self.memory

    def start(self) -> None:
        self._tick.start()
        self.redraw()
        self.tray.start()
        if self._notice:
            self.notices.tell(self._notice)
        if self.consented:
            self.setup.start()
            QTimer.singleShot(FIRST_LOOK_MS, self._open_without_host)
        else:
            self.show_welcome()

    def stop(self) -> None:
        """End in good order; the node goes too, if it is ours."""
        self._tick.stop()
        if self.teller is not None:
            self.teller.stop()
        self.client.detach()
        self.tray.stop()
        if self.welcome is not None:
            self.welcome.stop()
        self.setup.stop()
        self.node.stop()

    def quit(self) -> None:
        QApplication.exit(0)

    # What a package still fetches before there is a node

    def _setting_up(self, progress: Progress) -> None:
        self.trouble = ""
        self.snapshot = Snapshot(Status("", State.FETCHING, progress=progress))
        self.redraw()

    def _not_set_up(self, why: str) -> None:
        self.snapshot = None
        self.trouble = sentence(why)
        self.redraw()
        self.tray.notify(_("Idlebloom needs you"), self.trouble)
        QTimer.singleShot(SETUP_AGAIN_MS, self.setup.start)

    # What the node does

    def _found(self, door: object) -> None:
        self.trouble = ""
        self.client.attach(door)  # type: ignore[arg-type]
        if self.welcome is not None:
            self.welcome.node_runs()
        if isinstance(self.node, WslNode):
            self.client.get("/api/settings", self.node.keep)

    def _gone(self, why: str) -> None:
        self.client.detach()
        self.snapshot = None
        self.trouble = _("Idlebloom's node ended. It is started again in a moment.")
        if why:
            self.trouble += " " + sentence(why)
        if self.welcome is not None:
            self.welcome.node_ended(why)
        self.redraw()

    def _lost(self) -> None:
        self.snapshot = None
        self.redraw()

    def _saw(self, seen: Snapshot) -> None:
        before, self.snapshot = self.snapshot, seen
        self.trouble = ""
        news = before is None or _turn(before) != _turn(seen)
        self.past.saw(seen, news=news)
        if news:
            self.notices.saw(seen)
            self._read_more()
        self.live.draw(seen)
        self.redraw()

    def redraw(self) -> None:
        """Everything, from the snapshot."""
        face = self.snapshot.face if self.snapshot else Face.TROUBLE if self.trouble else Face.OFF
        entries = build(self.snapshot, consented=self.consented, trouble=self.trouble)
        tooltip = phrases.tooltip(self.snapshot, self.trouble) if self.consented else phrases.NAME
        self.tray.draw(face, tooltip, entries)
        if self.window is not None:
            self.window.overview.draw(self.snapshot, self.trouble)

    def _ticked(self) -> None:
        self.redraw()
        self._read_more()

    def _read_more(self) -> None:
        """What was given and what happened, for a window that is open."""
        if self.window is not None and self.window.isVisible():
            self.past.read()

    def _draw_ledger(self, ledger: Ledger) -> None:
        self.live.draw_ledger(ledger)
        if self.window is not None:
            self.window.overview.draw_ledger(ledger)

    def _draw_happenings(self, happened: tuple[Happening, ...]) -> None:
        if self.window is not None:
            self.window.overview.draw_events(happened)

    # What the owner does

    def order(self, order: Order) -> None:
        if order.do in TO_NODE:
            self.client.donate(order.body(), self.notices.refused)
        elif order.do is Do.CHAT:
            self._browse("/")
        elif order.do is Do.SWARM:
            self._browse("/swarm")
        elif order.do is Do.SETTINGS:
            self.show_window(Page.SETTINGS)
        elif order.do is Do.STATUS:
            self.show_window(Page.OVERVIEW)
        elif order.do is Do.WELCOME:
            self.show_welcome()
        elif order.do is Do.QUIT:
            self.quit()

    def _browse(self, path: str) -> None:
        if self.client.door is not None:
            QDesktopServices.openUrl(QUrl(self.client.door.url + path))

    # Windows

    def show_window(self, page: Page = Page.OVERVIEW) -> None:
        if not self.consented:
            self.show_welcome()
            return
        if self.window is None:
            self.window = self._make_window()
        self.window.overview.draw(self.snapshot, self.trouble)
        self.window.open(page)

    def _make_window(self) -> Window:
        overview = Overview()
        overview.ordered.connect(self.order)
        overview.bundle_wanted.connect(lambda: save_bundle(self, self._program, self.window))
        overview.draw_ledger(Ledger())
        overview.draw_events(())
        self.live.deleteLater()
        self.live = Live(self.paths, self._program, self)
        panel = SettingsPanel(self.keeper, {name: self._extra(make) for name, make in EXTRAS.items()})
        panel.loaded.connect(self._settings_seen)
        models = ModelsPage(panel.keeper, self.live)
        panel.loaded.connect(models.show_settings)
        pages: dict[Page, QWidget] = {
            Page.OVERVIEW: overview,
            Page.SETTINGS: panel,
            Page.MODELS: models,
            Page.PRIVACY: PrivacyPage(),
        }
        window = Window(pages)
        window.turned.connect(lambda page: self._turned(page, panel))
        window.shown.connect(self._read_more)
        window.shown.connect(panel.refresh)
        window.closing.connect(self._closing)
        if self.snapshot is not None:
            self.live.draw(self.snapshot)
        return window

    def _extra(self, make: Callable[..., QWidget]) -> Callable[..., QWidget]:
        return lambda panel, field: make(self.live, panel, field)

    def _turned(self, page: Page, panel: SettingsPanel) -> None:
        if page in (Page.SETTINGS, Page.MODELS):
            panel.refresh()
        self._read_more()

    def _saved(self, names: Collection[str]) -> None:
        """Some settings count from the node's next start: that is now. A node that is not ours is left to
        whoever started it; the field says what it waits for."""
        if not all(DECLARED[name].live for name in names):
            self.node.restart()

    def _restart(self) -> None:
        if self.node.owned:
            self.node.restart()
        else:
            boxes.warn(
                self.window,
                _("Start the node again"),
                _("Something else started the node of this PC. End that one; a new one starts by itself."),
            )

    def _settings_seen(self, settings: dict[str, object]) -> None:
        if isinstance(self.node, WslNode) and self.client.door is not None:
            self.node.keep(settings)  # the node's own, not this side's copy
        language = str(settings.get("language", self.language))
        if language != self.language:
            self.language = language
            words.use(language)
            QTimer.singleShot(0, self._say_anew)

    def _say_anew(self) -> None:
        """In another language: the window is made again, with the same page open."""
        old = self.window
        self.window = None
        if old is not None:
            page, place, open_ = old.page, old.geometry(), old.isVisible()
            old.deleteLater()
            if open_:
                self.show_window(page)
                assert self.window is not None
                self.window.setGeometry(place)
        self.redraw()

    def _closing(self, event: QCloseEvent) -> None:
        if self.tray.visible:
            self.notices.window_closed()
            return
        event.ignore()
        boxes.ask_to_quit(self.window, self.quit, self._hide_window)

    def _hide_window(self) -> None:
        if self.window is not None:
            self.window.hide()

    def _host_changed(self, there: bool) -> None:
        if not there:
            self._open_without_host()

    def _open_without_host(self) -> None:
        shown = self.window is not None and self.window.isVisible()
        if not self.tray.visible and self.consented and not shown:
            self.show_window()

    def show_welcome(self) -> None:
        if self.welcome is None:
            self.welcome = Welcome(
                self.paths,
                self._program,
                self.keeper,
                self._offered,
                joins_by_node=isinstance(self.node, WslNode),
            )
            self.welcome.node.connect(self.node.start)
            self.welcome.agreed.connect(self._agreed)
            self.welcome.closed.connect(self._welcome_closed)
            self.welcome.give.connect(lambda: self.order(Order(Do.GIVE, "15m")))
            self.welcome.chat.connect(lambda: self.order(Order(Do.CHAT)))
            self.welcome.restart.connect(self._restart)
            if self.client.door is not None:
                self.welcome.node_runs()
        self.welcome.show()
        self.welcome.raise_()
        self.welcome.activateWindow()

    def _agreed(self) -> None:
        self.memory.keep(CONSENTED)
        self.setup.start()
        self.redraw()

    def _welcome_closed(self) -> None:
        self.welcome = None
        if self.consented:
            self.show_window()
        elif not self.tray.visible:
            self.quit()

    def woken(self) -> None:
        """Someone started Idlebloom again: they want to see it."""
        self.show_window(self.window.page if self.window is not None else Page.OVERVIEW)


def _turn(of: Snapshot) -> tuple[State, Because | None]:
    """What makes a snapshot another event."""
    because = of.status.reason
    return of.status.state, None if because is None else Because(because.kind)
