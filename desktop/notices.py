"""What the owner is told without having asked: rarely, by the icon where there is one, else in a box."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtWidgets import QWidget

from core.terms import State
from core.words import _, sentence
from desktop import boxes, phrases
from desktop.memory import Memory
from desktop.snapshot import Snapshot
from desktop.tray import Tray

JOINED, TOLD = "joined", "told_of_tray"
TROUBLE_SECONDS = 3600.0
"""The same trouble is told again after so long at the soonest."""


class Notices:
    """``window`` is what a box belongs to."""

    def __init__(self, tray: Tray, memory: Memory, window: Callable[[], QWidget | None]) -> None:
        self._tray, self._memory, self._window = tray, memory, window
        self._told: dict[str, float] = {}

    def tell(self, why: str) -> None:
        """What its owner has to know, though everything goes on."""
        if self._tray.visible:
            self._tray.notify(_("Idlebloom needs you"), sentence(why))
        else:
            boxes.warn(self._window(), _("Idlebloom needs you"), sentence(why))

    def saw(self, seen: Snapshot) -> None:
        """The first time that this PC gives, and trouble that needs its owner."""
        if seen.status.state is State.GIVING and JOINED not in self._memory:
            self._memory.keep(JOINED)
            self._tray.notify(
                _("This PC gives"), _("It has joined the swarm. It stops at once when you come back.")
            )
        if seen.status.state is State.TROUBLE:
            why = phrases.why(seen)
            now = time.monotonic()  # the wall's clock may be set
            if now - self._told.get(why, -TROUBLE_SECONDS) >= TROUBLE_SECONDS:
                self._told[why] = now
                self._tray.notify(_("Idlebloom needs you"), why)

    def window_closed(self) -> None:
        """Once: closing it ends nothing."""
        if TOLD not in self._memory:
            self._memory.keep(TOLD)
            self._tray.notify(phrases.NAME, _("It goes on in the tray. Quit is in the icon's menu."))

    def refused(self, why: str) -> None:
        """What the owner has just ordered."""
        boxes.warn(
            self._window(), _("That was refused"), sentence(why or _("Idlebloom's node does not run now."))
        )
