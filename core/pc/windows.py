"""Windows: time without input, whose session is in front and whether it is locked, the program that fills the
screen, who keeps it awake, mains power, and whether the network is metered. Gamepads do not count as input
there: games are known by filling the screen.

Each source is given Windows' libraries, so that it is tested with recorded answers of theirs.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, byref, c_int32, c_uint32, c_void_p
from typing import Any, ClassVar, Self

from core.pc.source import Reading, Source, Unreadable

FULLSCREEN = frozenset({2, 3, 4})
"""What ``SHQueryUserNotificationState`` answers for a program, a Direct3D game and a presentation."""
SESSION_INFO = 25
"""``WTSSessionInfoEx``."""
DISCONNECTED = 4
"""The state of a session while another user's is in front."""
LOCKED = {0: True, 1: False}
"""A session's flags; others are unknown."""
EXECUTION_STATE, DISPLAY_REQUIRED = 16, 2
NO_BATTERY, MAINS, BATTERY = 128, 1, 0
NETWORK_LIST = "DCB00C01-570F-4A9B-8D69-199FDBA5723B"
NETWORK_COST = "DCB00008-570F-4A9B-8D69-199FDBA5723B"
GET_COST = 3
"""The place of ``INetworkCostManager::GetCost`` in its table, behind the three of every object."""
UNRESTRICTED, METERED = 0x1, 0x2 | 0x4 | 0x10000 | 0x40000
"""Costs of a network: none; a fixed amount, by use, over its limit, roaming."""
EVERY_PROCESS_CONTEXT = 23
"""``CLSCTX_ALL``."""


def libraries() -> Any:
    """``ctypes.windll``, or nothing on another system."""
    return vars(ctypes)["windll"] if sys.platform == "win32" else None


class _LastInput(ctypes.Structure):
    _fields_ = (("size", c_uint32), ("ticks", c_uint32))


class _Session(ctypes.Structure):
    """The beginning of ``WTSINFOEXW``; what follows is names and times."""

    _fields_ = (
        *(("level", c_uint32), ("padding", c_uint32)),
        *(("session", c_uint32), ("state", c_int32), ("flags", c_int32)),
    )


class _Power(ctypes.Structure):
    _fields_ = (
        *(("mains", ctypes.c_ubyte), ("battery", ctypes.c_ubyte), ("percent", ctypes.c_ubyte)),
        *(("saving", ctypes.c_ubyte), ("left", c_uint32), ("full", c_uint32)),
    )


class _Guid(ctypes.Structure):
    _fields_ = (("a", c_uint32), ("b", ctypes.c_uint16), ("c", ctypes.c_uint16), ("d", ctypes.c_ubyte * 8))

    @classmethod
    def of(cls, text: str) -> _Guid:
        import uuid

        return cls.from_buffer_copy(uuid.UUID(text).bytes_le)


class _Windows:
    every: ClassVar[float] = 1.0

    def __init__(self, windll: Any) -> None:
        self._dll = windll

    @classmethod
    def open(cls) -> Self | None:
        windll = libraries()
        return None if windll is None else cls(windll)

    def close(self) -> None:
        """Nothing is kept."""


class Desktop(_Windows):
    """Input, and the program that fills the screen."""

    every: ClassVar[float] = 0.1

    def read(self) -> Reading:
        return {"idle_seconds": self._idle(), "fullscreen": self._fullscreen()}

    def _idle(self) -> float:
        last = _LastInput(ctypes.sizeof(_LastInput), 0)
        if not self._dll.user32.GetLastInputInfo(byref(last)):
            raise Unreadable("GetLastInputInfo failed")
        # Both are milliseconds since the start in 32 bits, which turn over every 49.7 days.
        return float((self._dll.kernel32.GetTickCount() - last.ticks) & 0xFFFFFFFF) / 1000

    def _fullscreen(self) -> str:
        state = c_int32(0)
        if self._dll.shell32.SHQueryUserNotificationState(byref(state)):
            raise Unreadable("SHQueryUserNotificationState failed")
        return self._title() if state.value in FULLSCREEN else ""

    def _title(self) -> str:
        """Of the window in front, as one line: browsers put marks of direction into theirs."""
        text = ctypes.create_unicode_buffer(120)
        window = self._dll.user32.GetForegroundWindow
        window.restype = c_void_p
        self._dll.user32.GetWindowTextW(c_void_p(window()), text, 120)
        return "".join(sign for sign in text.value if sign.isprintable()).strip() or "a program"


class Session(_Windows):
    """Whose session is in front, and whether it is locked. An elevation prompt is neither."""

    def read(self) -> Reading:
        found, size = POINTER(_Session)(), c_uint32(0)
        query = self._dll.wtsapi32.WTSQuerySessionInformationW
        query.argtypes = (c_void_p, c_uint32, c_int32, c_void_p, c_void_p)
        if not query(None, 0xFFFFFFFF, SESSION_INFO, byref(found), byref(size)):
            raise Unreadable("WTSQuerySessionInformation failed")
        try:
            if size.value < ctypes.sizeof(_Session) or found.contents.level != 1:
                raise Unreadable("WTSQuerySessionInformation answered with something else")
            info = found.contents
            return {"locked": LOCKED.get(info.flags), "switched_out": info.state == DISCONNECTED}
        finally:
            self._dll.wtsapi32.WTSFreeMemory(found)


class Awake(_Windows):
    """Whether a program keeps the display on, such as a film. Windows does not say which to who is no
    administrator."""

    def read(self) -> Reading:
        state = c_uint32(0)
        if self._dll.powrprof.CallNtPowerInformation(EXECUTION_STATE, None, 0, byref(state), 4):
            raise Unreadable("CallNtPowerInformation failed")
        return {"inhibitor": "a program" if state.value & DISPLAY_REQUIRED else ""}


class Mains(_Windows):
    every: ClassVar[float] = 5.0

    def read(self) -> Reading:
        power = _Power()
        if not self._dll.kernel32.GetSystemPowerStatus(byref(power)):
            raise Unreadable("GetSystemPowerStatus failed")
        if power.mains in (MAINS, BATTERY):
            return {"on_battery": power.mains == BATTERY}
        return {"on_battery": False if power.battery == NO_BATTERY else None}


class Network(_Windows):
    """Whether the way to the internet is metered, by the network list's cost manager."""

    every: ClassVar[float] = 10.0

    def __init__(self, windll: Any) -> None:
        super().__init__(windll)
        self._manager = c_void_p()

    def read(self) -> Reading:
        if not self._manager:
            self._connect()
        cost = c_uint32(0)
        if _call(self._manager, GET_COST, (c_void_p, c_void_p), byref(cost), None):
            self.close()  # the service was started anew, say: it is asked for again
            raise Unreadable("GetCost failed")
        known = cost.value & (UNRESTRICTED | METERED)
        return {"metered": bool(known & METERED) if known else None}

    def _connect(self) -> None:
        self._dll.ole32.CoInitializeEx(None, 0)  # of this thread; that it was so before is no error
        create = self._dll.ole32.CoCreateInstance
        create.argtypes = (c_void_p, c_void_p, c_uint32, c_void_p, c_void_p)
        of, face = _Guid.of(NETWORK_LIST), _Guid.of(NETWORK_COST)
        if create(byref(of), None, EVERY_PROCESS_CONTEXT, byref(face), byref(self._manager)):
            self._manager = c_void_p()
            raise Unreadable("there is no network list manager")

    def close(self) -> None:
        if self._manager:
            _call(self._manager, 2, ())  # Release
            self._manager = c_void_p()


def _call(thing: c_void_p, place: int, kinds: tuple[Any, ...], *arguments: Any) -> int:
    """The method at that place of a COM object's table."""
    prototype = vars(ctypes).get("WINFUNCTYPE", ctypes.CFUNCTYPE)(c_int32, c_void_p, *kinds)
    table = ctypes.cast(thing, POINTER(POINTER(c_void_p))).contents
    return int(prototype(table[place])(thing, *arguments))


def sources() -> list[Source]:
    """All that Windows tells; nothing on another system."""
    found: list[Source | None] = [kind.open() for kind in (Desktop, Session, Awake, Mains, Network)]
    return [source for source in found if source is not None]
