"""What any system tells: the battery, and which programs run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar, Self

import psutil

from core.pc.source import Reading, Unreadable


class Battery:
    every: ClassVar[float] = 5.0

    @classmethod
    def open(cls) -> Self | None:
        return cls() if hasattr(psutil, "sensors_battery") else None

    def read(self) -> Reading:
        """A PC without a battery is not on it. Where the system's own folder of devices is not mounted, as in
        some containers, nobody knows."""
        try:
            battery = psutil.sensors_battery()
        except OSError as error:
            raise Unreadable(f"the battery: {error}") from error
        return {"on_battery": battery is not None and battery.power_plugged is False}

    def close(self) -> None:
        """Nothing is kept."""


class Programs:
    """Those of the names that ``wanted`` gives that run now."""

    every: ClassVar[float] = 2.0

    def __init__(self, wanted: Callable[[], Collection[str]]) -> None:
        self._wanted = wanted

    def read(self) -> Reading:
        wanted = {_plain(name): name for name in self._wanted()}
        if not wanted:
            return {"programs": ()}
        running = {_plain(name) for name in running_programs()}
        return {"programs": tuple(name for plain, name in wanted.items() if plain in running)}

    def close(self) -> None:
        """Nothing is kept."""


def running_programs() -> set[str]:
    """The names of all processes that this user may see. Linux cuts a name off after 15 characters: there
    the program's file says it whole."""
    names = set()
    for process in psutil.process_iter(["name"]):
        name = process.info["name"] or ""
        if len(name) >= 15:
            try:
                name = process.exe().rsplit("/", 1)[-1] or name
            except psutil.Error:
                pass  # another user's: the short name has to do
        names.add(name)
    return names - {""}


def _plain(name: str) -> str:
    return name.lower().removesuffix(".exe")
