"""What the owner told this PC to do, remembered over restarts: pauses with the time that is left, *give now*
until this process ends."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core import json_file
from core.errors import DiskError, SettingError
from core.terms import Orders

log = logging.getLogger(__name__)

TOMORROW = "tomorrow"
MORNING = 8
"""The hour at which tomorrow begins, for who pauses until then."""
LONGEST = 366 * 86_400.0
JUMP_SECONDS = 20.0
"""A wall clock that moves by more than this, against one that does not jump, has been set."""
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
WORDS = f"a time like 15m, 1h or {TOMORROW}"


def until_of(text: str | None, now: float) -> float:
    """Until when: Unix time, or infinity where nothing is said. Raises ``SettingError``."""
    said = (text or "").strip().lower().removeprefix("until ").strip()
    if not said:
        return math.inf
    if said == TOMORROW:
        day = time.localtime(now)
        return time.mktime((day.tm_year, day.tm_mon, day.tm_mday + 1, MORNING, 0, 0, 0, 0, -1))
    found = re.fullmatch(r"(\d+(?:[.,]\d+)?)\s*(s|m|min|h|d)", said)
    seconds = float(found[1].replace(",", ".")) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= LONGEST:
        raise SettingError(f"“{text}” is not {WORDS}")
    return now + seconds


class Told:
    """The orders in force. ``notice`` says what was wrong with the file, if anything was."""

    def __init__(self, file: Path, wall: Callable[[], float] = time.time) -> None:
        self._file, self._wall = file, wall
        self._offset: float | None = None
        self._by_the_clock = False
        """Until a time of day, which is the same whatever the clock was set to."""
        self.notice = ""
        self.orders = self._load()

    def pause(self, duration: str | None, *, finish: bool = False) -> None:
        until = until_of(duration, self._wall())
        self._by_the_clock = TOMORROW in (duration or "").lower()
        self._set(Orders(paused_until=until, finishing=finish))

    def give(self, duration: str | None) -> None:
        self._by_the_clock = False
        self._set(Orders(give_until=until_of(duration, self._wall())))

    def resume(self) -> None:
        self._set(Orders())

    def look(self, now: float, clock: float) -> Orders:
        """What holds at this moment. ``clock`` does not jump: by it a clock that was set is known, and times
        that were given as so many minutes are moved along."""
        offset = now - clock
        if self._offset is not None and abs(offset - self._offset) > JUMP_SECONDS and not self._by_the_clock:
            self._move(offset - self._offset)
        self._offset = offset
        until = self.orders.paused_until
        if until is not None and until <= now:
            self._set(Orders())
        until = self.orders.give_until
        if until is not None and until <= now:
            self._set(Orders())
        return self.orders

    def _move(self, seconds: float) -> None:
        old = self.orders
        self._set(
            replace(
                old,
                paused_until=None if old.paused_until is None else old.paused_until + seconds,
                give_until=None if old.give_until is None else old.give_until + seconds,
            )
        )

    def _set(self, orders: Orders) -> None:
        self.orders = orders
        until = orders.paused_until
        content: dict[str, object] = {}
        if until is not None:
            left = "until_resumed" if math.isinf(until) else until
            content = {"paused_until": left, "by_the_clock": self._by_the_clock}
        try:
            json_file.write(self._file, content)
        except DiskError as error:  # it holds all the same, until this process ends
            log.warning("a pause cannot be remembered: %s", error)

    def _load(self) -> Orders:
        try:
            found = json_file.read(self._file)
        except DiskError as error:
            self.notice = f"{error}. What was paused is not known any more."
            return Orders()
        until = found.get("paused_until")
        self._by_the_clock = found.get("by_the_clock") is True
        if until == "until_resumed":
            return Orders(paused_until=math.inf)
        if isinstance(until, int | float) and self._wall() < until < self._wall() + LONGEST:
            return Orders(paused_until=float(until))
        return Orders()
