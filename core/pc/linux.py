"""A Linux desktop's services: whose session is in front, whether it is locked, who keeps the screen awake,
time without input, mains power, and whether the network is metered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

from core.pc.bus import Bus
from core.pc.source import Reading, Source, Unreadable

LOGIND, LOGIND_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
MUTTER = "org.gnome.Mutter.IdleMonitor"
GNOME_SESSION = "org.gnome.SessionManager"
POWER_INHIBIT = "org.freedesktop.PowerManagement"
NETWORK, NETWORK_PATH = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
UPOWER, UPOWER_PATH = "org.freedesktop.UPower", "/org/freedesktop/UPower"
IDLE = 8
"""The flag of GNOME's inhibitors that keep the session from becoming idle."""
METERED = {1: True, 2: False, 3: True, 4: False}
"""NetworkManager's words: yes, no, and a guess of either. 0 is unknown."""


class _Service:
    which: ClassVar[Literal["SYSTEM", "SESSION"]] = "SYSTEM"
    every: ClassVar[float] = 5.0

    def __init__(self) -> None:
        self.bus = Bus(self.which)

    @classmethod
    def open(cls) -> Self | None:
        """Present where its service is."""
        made = cls()
        try:
            if made.is_here():
                return made
        except Unreadable:
            pass  # there is no such bus
        made.close()
        return None

    def is_here(self) -> bool:
        raise NotImplementedError

    def close(self) -> None:
        self.bus.close()


class _Session(_Service):
    """This user's graphical session as logind knows it; a node that is a service has none of its own."""

    def is_here(self) -> bool:
        return self.bus.has(LOGIND) and bool(self.facts())

    def facts(self) -> dict[str, Any]:
        return self.bus.properties(LOGIND, self._path(), "org.freedesktop.login1.Session")

    def _path(self) -> str:
        chosen = os.environ.get("XDG_SESSION_ID")
        manager = f"{LOGIND}.Manager"
        if chosen:
            try:
                return str(self.bus.call(LOGIND, LOGIND_PATH, manager, "GetSession", chosen, types="s"))
            except Unreadable:
                pass  # that one has ended
        display = self.bus.property(LOGIND, f"{LOGIND_PATH}/user/self", f"{LOGIND}.User", "Display")
        return str(display[1])


class SessionState(_Session):
    every: ClassVar[float] = 0.5

    def read(self) -> Reading:
        found = self.facts()
        locked, active = found.get("LockedHint"), found.get("Active")
        return {
            "locked": None if locked is None else bool(locked),
            "switched_out": None if active is None else not active,
        }


class LogindIdle(_Session):
    """Set by few desktops, and by none for input alone: the last to be asked."""

    every: ClassVar[float] = 0.5

    def read(self) -> Reading:
        found = self.facts()
        hint, since = found.get("IdleHint"), found.get("IdleSinceHintMonotonic")
        if hint is None:
            raise Unreadable("logind tells nothing of input")
        return {"idle_seconds": max(0.0, time.monotonic() - since / 1e6) if hint and since else 0.0}


class MutterIdle(_Service):
    """GNOME."""

    which = "SESSION"
    every: ClassVar[float] = 0.2

    def is_here(self) -> bool:
        return self.bus.has(MUTTER)

    def read(self) -> Reading:
        path = "/org/gnome/Mutter/IdleMonitor/Core"
        return {"idle_seconds": self.bus.call(MUTTER, path, MUTTER, "GetIdletime") / 1000}


class LogindInhibitors(_Service):
    every: ClassVar[float] = 1.0

    def is_here(self) -> bool:
        return self.bus.has(LOGIND)

    def read(self) -> Reading:
        held = self.bus.call(LOGIND, LOGIND_PATH, f"{LOGIND}.Manager", "ListInhibitors")
        names = [who for what, who, _, mode, *_ in held if "idle" in what.split(":") and mode == "block"]
        return {"inhibitor": names[0] if names else ""}


class DesktopInhibitors(_Service):
    """Of GNOME's session, or of what KDE, Xfce and others offer in their place."""

    which = "SESSION"
    every: ClassVar[float] = 1.0

    def is_here(self) -> bool:
        return self.bus.has(GNOME_SESSION) or self.bus.has(POWER_INHIBIT)

    def read(self) -> Reading:
        return {"inhibitor": self._gnome() if self.bus.has(GNOME_SESSION) else self._other()}

    def _gnome(self) -> str:
        path = "/org/gnome/SessionManager"
        if not self.bus.call(GNOME_SESSION, path, GNOME_SESSION, "IsInhibited", IDLE, types="u"):
            return ""
        for one in self.bus.call(GNOME_SESSION, path, GNOME_SESSION, "GetInhibitors"):
            kind = f"{GNOME_SESSION}.Inhibitor"
            if self.bus.call(GNOME_SESSION, one, kind, "GetFlags") & IDLE:
                return str(self.bus.call(GNOME_SESSION, one, kind, "GetAppId")) or "a program"
        return "a program"

    def _other(self) -> str:
        path = "/org/freedesktop/PowerManagement/Inhibit"
        inhibited = self.bus.call(POWER_INHIBIT, path, f"{POWER_INHIBIT}.Inhibit", "HasInhibit")
        return "a program" if inhibited else ""


class Metered(_Service):
    def is_here(self) -> bool:
        return self.bus.has(NETWORK)

    def read(self) -> Reading:
        return {"metered": METERED.get(self.bus.property(NETWORK, NETWORK_PATH, NETWORK, "Metered"))}


class Mains(_Service):
    every: ClassVar[float] = 2.0

    def is_here(self) -> bool:
        return self.bus.has(UPOWER)

    def read(self) -> Reading:
        return {"on_battery": bool(self.bus.property(UPOWER, UPOWER_PATH, UPOWER, "OnBattery"))}


def first(*openers: Callable[[], Source | None]) -> Source | None:
    """The first source that is here."""
    return next((found for open_ in openers if (found := open_()) is not None), None)
