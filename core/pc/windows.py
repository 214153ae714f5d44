"""Windows: time without input, whose session is in front and whether it is locked, the program that fills the
screen, who keeps it awake, mains power, whether the network is metered, and how busy others keep the GPU.
Gamepads do not count as input there: games are known by filling the screen.

Each source is given Windows' libraries, so that it is tested with recorded answers of theirs.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from ctypes import POINTER, byref, c_int32, c_uint32, c_void_p
from typing import Any, ClassVar, Self

from core.pc.gpu import process_name
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
ENGINES_PATH = "\\GPU Engine(*)\\Utilization Percentage"
ENGINE = re.compile(
    r"pid_(?P<pid>\d+)_luid_(?P<gpu>0x[0-9A-F]+_0x[0-9A-F]+_phys_\d+)_eng_(?P<engine>\d+)_engtype_"
    r"(3D|Compute.*|Cuda|High Priority Compute)",
    re.IGNORECASE,
)
"""What computes. A film is decoded by others, and copies need none of what layers need."""
AS_DOUBLE, MORE_DATA, VALID, NEW = 0x200, 0x800007D2, 0, 1
"""Of the performance counters' library, pdh."""


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


class _Use(ctypes.Structure):
    """``PDH_FMT_COUNTERVALUE_ITEM_W`` with a double."""

    _fields_ = (("name", ctypes.c_wchar_p), ("status", c_uint32), ("percent", ctypes.c_double))


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


class Engines(_Windows):
    """How busy programs of Windows keep the GPU that Windows' Linux computes on, where the node's worker is:
    the driver in there does not see them. Its own part is not counted, and where it uses none, nothing is
    said: then all that the driver sees is others'."""

    every: ClassVar[float] = 1.0

    def __init__(self, windll: Any, name: Callable[[int], str] = process_name) -> None:
        super().__init__(windll)
        self._name = name
        self._query, self._counter = c_void_p(), c_void_p()

    def read(self) -> Reading:
        if not self._query:
            self._begin()
        if self._ask("PdhCollectQueryData", (c_void_p,), self._query):
            self.close()  # the driver was replaced, say
            raise Unreadable("PdhCollectQueryData failed")
        percent, program = _others(self._uses(), self._name)
        return {"gpu_percent": percent, "gpu_program": program}

    def _begin(self) -> None:
        if self._ask("PdhOpenQueryW", (c_void_p, c_void_p, c_void_p), None, None, byref(self._query)):
            self._query = c_void_p()
            raise Unreadable("there are no performance counters")
        kinds = (c_void_p, ctypes.c_wchar_p, c_void_p, c_void_p)
        if self._ask("PdhAddEnglishCounterW", kinds, self._query, ENGINES_PATH, None, byref(self._counter)):
            self.close()
            raise Unreadable("Windows does not count what its GPUs do")

    def _uses(self) -> dict[str, float]:
        """Percent by the name of the engine of a process; none before the second look."""
        kinds = (c_void_p, c_uint32, c_void_p, c_void_p, c_void_p)
        size, count = c_uint32(0), c_uint32(0)
        ask = ("PdhGetFormattedCounterArrayW", kinds, self._counter, AS_DOUBLE, byref(size), byref(count))
        if self._ask(*ask, None) != MORE_DATA or not size.value:
            return {}
        place = ctypes.create_string_buffer(size.value)
        if self._ask(*ask, ctypes.cast(place, c_void_p)):
            return {}  # more programs than a moment ago: the next look has them
        items = (_Use * count.value).from_buffer(place)
        return {str(one.name): one.percent for one in items if one.status in (VALID, NEW)}

    def _ask(self, call: str, kinds: tuple[Any, ...], *arguments: Any) -> int:
        function = getattr(self._dll.pdh, call)
        function.argtypes = kinds
        return int(function(*arguments)) & 0xFFFFFFFF

    def close(self) -> None:
        if self._query:
            self._ask("PdhCloseQuery", (c_void_p,), self._query)
            self._query = c_void_p()


def _others(uses: dict[str, float], name: Callable[[int], str]) -> tuple[float | None, str]:
    """The busiest engine of the GPUs that Windows' Linux computes on, without its own part; and who keeps
    them busy the most."""
    parts = [(found, percent) for key, percent in uses.items() if (found := ENGINE.fullmatch(key))]
    names = {pid: name(int(pid)) for pid in {found["pid"] for found, _percent in parts}}
    linux = {pid for pid, called in names.items() if called.lower().startswith("vmmem")}
    gpus = {found["gpu"] for found, _percent in parts if found["pid"] in linux}
    if not gpus:
        return None, ""
    engines: dict[str, float] = {}
    programs: dict[str, float] = {}
    for found, percent in parts:
        if found["gpu"] in gpus and found["pid"] not in linux:
            engine = f"{found['gpu']} {found['engine']}"
            engines[engine] = engines.get(engine, 0.0) + percent
            programs[found["pid"]] = programs.get(found["pid"], 0.0) + percent
    most = max(programs, key=programs.__getitem__, default="")
    busy = max(engines.values(), default=0.0)
    return float(round(min(100.0, max(0.0, busy)))), names.get(most, "") if busy >= 1 else ""


def sources() -> list[Source]:
    """All that Windows tells; nothing on another system."""
    found: list[Source | None] = [kind.open() for kind in (Desktop, Session, Awake, Mains, Network, Engines)]
    return [source for source in found if source is not None]
