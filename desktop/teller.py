"""Tells the node what this side of the PC does, where the node cannot see it: on Windows, from inside WSL2.

``core.pc.observe`` reads in threads of its own; here its facts are posted to the local door, each second and
at once when there is news. The node believes them for a few seconds: whatever ends this ends its giving.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from core.pc import windows
from core.pc.observe import CALM_SECONDS, TOLD, Observer
from core.pc.source import Source
from core.pc.system import Programs
from core.terms import State
from desktop.client import Client
from desktop.snapshot import Snapshot

EVERY_MS = 1000
NAMES_EVERY = 30
"""After so many turns the node is asked anew which programs to look for."""

Find = Callable[[Callable[[], Collection[str]]], Iterable[Source]]


def sources(names: Callable[[], Collection[str]]) -> list[Source]:
    """What Windows tells, and which of the named programs run there."""
    return [Programs(names), *windows.sources()]


class Teller(QObject):
    """Follows ``client``: tells while that has a node, and says nothing else."""

    _news = Signal()

    def __init__(self, client: Client, parent: QObject | None = None, find: Find = sources) -> None:
        super().__init__(parent)
        self._client, self._turn = client, 0
        self._names: tuple[str, ...] = ()
        self._news.connect(self._tell)  # across threads: it is done in Qt's own
        self._observer = Observer(lambda: find(lambda: self._names), self._news.emit)
        self._timer = QTimer(self)
        self._timer.setInterval(EVERY_MS)
        self._timer.timeout.connect(self._next)
        client.seen.connect(self._saw)
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()
        self._news.disconnect(self._tell)
        self._observer.close()

    def _saw(self, snapshot: Snapshot) -> None:
        # While something is given its owner must be seen to come back at once.
        self._observer.pause = 0.0 if snapshot.status.state is State.GIVING else CALM_SECONDS

    def _next(self) -> None:
        if self._client.door is None:
            self._turn = 0
            return
        if self._turn % NAMES_EVERY == 0:
            self._client.get("/api/settings", self._name)
        self._turn += 1
        self._tell()

    def _name(self, settings: Any) -> None:
        match settings:
            case {"yield_programs": [*names]}:
                self._names = tuple(str(name) for name in names)

    def _tell(self) -> None:
        if self._client.door is not None:
            facts = self._observer.facts()
            self._client.tell({name: getattr(facts, name) for name in TOLD})
