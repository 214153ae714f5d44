"""What Windows tells, from answers of its system calls as they come: structures in memory, filled through the
pointers that the calls get, and a COM object with a real table of functions."""

from __future__ import annotations

import ctypes
import struct
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from core.pc import windows
from core.pc.source import Unreadable


class Call:
    """A function of a library that writes ``answer`` where its argument number ``at`` points to."""

    def __init__(self, answer: bytes = b"", at: int = 0, returns: int = 1) -> None:
        self.answer, self.at, self.returns = answer, at, returns
        self.asked: list[tuple[Any, ...]] = []
        self.restype = self.argtypes = None

    def __call__(self, *arguments: Any) -> int:
        self.asked.append(arguments)
        if self.answer:
            ctypes.memmove(ctypes.addressof(arguments[self.at]._obj), self.answer, len(self.answer))
        return self.returns


def library(**calls: Any) -> Any:
    """All libraries at once: none has a name that another has."""
    one = SimpleNamespace(**calls)
    names = ("user32", "kernel32", "shell32", "wtsapi32", "powrprof", "ole32", "pdh")
    return SimpleNamespace(**dict.fromkeys(names, one))


def input_at(ticks: int, last: int, state: int, title: str = "Game") -> Any:
    def text(_window: Any, into: Any, _size: int) -> int:
        into.value = title
        return len(title)

    return library(
        GetLastInputInfo=Call(struct.pack("<II", 8, last)),
        GetTickCount=lambda: ctypes.c_int32(ticks).value,  # as ctypes hands a DWORD out
        SHQueryUserNotificationState=Call(struct.pack("<i", state), returns=0),
        GetForegroundWindow=Call(returns=0x20346),
        GetWindowTextW=text,
    )


@pytest.mark.parametrize(
    ("ticks", "last", "seconds"),
    [(10_000, 4_000, 6.0), (1_000, 2**32 - 1_000, 2.0), (3_000_000_000, 2_999_999_500, 0.5)],
)
def test_time_without_input(ticks: int, last: int, seconds: float) -> None:
    """Also where the counter has turned over meanwhile, and where it is past half of its way."""
    assert windows.Desktop(input_at(ticks, last, 5)).read() == {"idle_seconds": seconds, "fullscreen": ""}


@pytest.mark.parametrize(
    ("state", "fills"), [(1, ""), (2, "Game"), (3, "Game"), (4, "Game"), (5, ""), (6, ""), (7, "")]
)
def test_what_fills_the_screen(state: int, fills: str) -> None:
    """A program, a game or a presentation does; an app of the store need not."""
    assert windows.Desktop(input_at(1, 1, state)).read()["fullscreen"] == fills


@pytest.mark.parametrize(("title", "said"), [("Film \u200e– Browser\n", "Film – Browser"), ("", "a program")])
def test_a_title_is_one_line(title: str, said: str) -> None:
    """The local door takes nothing else."""
    assert windows.Desktop(input_at(1, 1, 2, title)).read()["fullscreen"] == said


def session(state: int, flags: int, level: int = 1, size: int = 0) -> tuple[Any, list[Any]]:
    """``WTSINFOEXW`` of a user: level, padding, session 1, its state and flags, names and times."""
    body = struct.pack("<IIIii", level, 0, 1, state, flags) + b"\0" * 200
    kept, freed = ctypes.create_string_buffer(body), list[Any]()

    def query(_server: Any, _session: int, kind: int, found: Any, length: Any) -> int:
        assert kind == 25
        ctypes.memmove(ctypes.addressof(found._obj), struct.pack("<Q", ctypes.addressof(kept)), 8)
        length._obj.value = size or len(body)
        return 1

    return library(WTSQuerySessionInformationW=query, WTSFreeMemory=freed.append), freed


@pytest.mark.parametrize(
    ("state", "flags", "locked", "out"),
    [(0, 1, False, False), (0, 0, True, False), (4, 0, True, True), (0, -1, None, False)],
)
def test_the_session(state: int, flags: int, locked: bool | None, out: bool) -> None:
    """Locked, or another user's in front; what Windows does not know is unknown. Its memory is given back."""
    windll, freed = session(state, flags)
    assert windows.Session(windll).read() == {"locked": locked, "switched_out": out}
    assert len(freed) == 1


def test_an_odd_answer_about_the_session_is_refused() -> None:
    """Another level has another shape; a short one ends before the flags."""
    for windll, freed in (session(0, 1, level=2), session(0, 1, size=8)):
        with pytest.raises(Unreadable):
            windows.Session(windll).read()
        assert len(freed) == 1


@pytest.mark.parametrize(("flags", "who"), [(0, ""), (1, ""), (2, "a program"), (3, "a program")])
def test_who_keeps_the_display_on(flags: int, who: str) -> None:
    """Only the display counts: a download keeps the system awake, and nobody watches it."""
    call = Call(struct.pack("<I", flags), at=3, returns=0)
    assert windows.Awake(library(CallNtPowerInformation=call)).read() == {"inhibitor": who}


@pytest.mark.parametrize(
    ("mains", "battery", "on_battery"),
    [(1, 8, False), (0, 1, True), (1, 128, False), (255, 128, False), (255, 255, None)],
)
def test_mains_power(mains: int, battery: int, on_battery: bool | None) -> None:
    """Plugged in, on battery, a PC without one, and one that does not say."""
    power = struct.pack("<BBBBII", mains, battery, 80, 0, 3600, 0xFFFFFFFF)
    assert windows.Mains(library(GetSystemPowerStatus=Call(power))).read() == {"on_battery": on_battery}


CLASS = uuid.UUID("dcb00c01-570f-4a9b-8d69-199fdba5723b")
FACE = uuid.UUID("dcb00008-570f-4a9b-8d69-199fdba5723b")


class CostManager:
    """``INetworkCostManager`` as it lies in memory: a pointer to a table of functions."""

    def __init__(self, cost: int) -> None:
        self.cost, self.result, self.released = cost, 0, 0
        kinds = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        one = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
        self._kept = (kinds(self._cost), one(self._release))
        self._table = (ctypes.c_void_p * 6)()
        self._table[2] = ctypes.cast(self._kept[1], ctypes.c_void_p).value
        self._table[3] = ctypes.cast(self._kept[0], ctypes.c_void_p).value
        self._body = ctypes.c_void_p(ctypes.addressof(self._table))

    def _cost(self, _this: int, cost: int, where: int | None) -> int:
        assert where is None  # not of one address: of the way to the internet
        ctypes.c_uint32.from_address(cost).value = self.cost
        return self.result

    def _release(self, _this: int) -> int:
        self.released += 1
        return 0

    def library(self) -> Any:
        def create(kind: Any, _outer: None, context: int, face: Any, made: Any) -> int:
            assert [uuid.UUID(bytes_le=bytes(one._obj)) for one in (kind, face)] == [CLASS, FACE]
            assert context == 23
            made._obj.value = ctypes.addressof(self._body)
            return 0

        return library(CoInitializeEx=lambda *_: 1, CoCreateInstance=_with_types(create))


def _with_types(call: Callable[..., int]) -> Any:
    class Typed:
        argtypes: Any = None

        def __call__(self, *arguments: Any) -> int:
            return call(*arguments)

    return Typed()


@pytest.mark.parametrize(
    ("cost", "metered"),
    [(0, None), (1, False), (2, True), (4, True), (0x10002, True), (0x40001, True), (0x80001, False)],
)
def test_a_metered_network(cost: int, metered: bool | None) -> None:
    """A fixed amount, by use, over its limit or roaming; near the limit alone is not."""
    manager = CostManager(cost)
    source = windows.Network(manager.library())
    assert source.read() == {"metered": metered}
    source.close()
    assert manager.released == 1


def test_a_network_list_that_fails_is_asked_for_again() -> None:
    """The service may be started anew while this runs."""
    manager = CostManager(4)
    source = windows.Network(manager.library())
    manager.result = -2147023174  # the remote procedure call server is unavailable
    with pytest.raises(Unreadable):
        source.read()
    manager.result = 0
    assert source.read() == {"metered": True}
    assert manager.released == 1


class Counters:
    """``pdh`` with engines as Windows names them; what it answers lies in memory of its own."""

    def __init__(self, uses: dict[str, float], status: int = 0) -> None:
        self.uses, self.status, self.result, self.closed = uses, status, 0, 0
        self._names = [ctypes.create_unicode_buffer(name) for name in uses]

    def library(self) -> Any:
        def opened(*arguments: Any) -> int:
            arguments[-1]._obj.value = 7
            return self.result

        def fill(counter: Any, form: int, size: Any, count: Any, place: Any) -> int:
            assert (counter.value, form) == (7, 0x200)
            whole = b"".join(
                struct.pack("<QIId", ctypes.addressof(name), self.status, 0, percent)
                for name, percent in zip(self._names, self.uses.values(), strict=True)
            )
            if place is None:
                size._obj.value = len(whole)
                return ctypes.c_int32(0x800007D2).value
            count._obj.value = len(self._names)
            ctypes.memmove(place, whole, len(whole))
            return 0

        def close(_query: Any) -> int:
            self.closed += 1
            return 0

        return library(
            PdhOpenQueryW=_with_types(opened),
            PdhAddEnglishCounterW=_with_types(opened),
            PdhCollectQueryData=_with_types(lambda query: self.result),
            PdhGetFormattedCounterArrayW=_with_types(fill),
            PdhCloseQuery=_with_types(close),
        )


NVIDIA, OTHER = "luid_0x00000000_0x0000C6C7_phys_0", "luid_0x00000000_0x0000D1A2_phys_0"
PROGRAMS = {40: "vmmemWSL", 50: "blender.exe", 60: "dwm.exe"}


def engines(uses: dict[str, float], status: int = 0) -> tuple[dict[str, Any], Counters]:
    counters = Counters(uses, status)
    source = windows.Engines(counters.library(), lambda pid: PROGRAMS.get(pid, ""))
    reading = source.read()
    source.close()
    assert counters.closed == 1
    return dict(reading), counters


@pytest.mark.parametrize(
    ("uses", "percent", "program"),
    [
        ({}, None, ""),
        ({f"pid_50_{NVIDIA}_eng_0_engtype_3D": 60.0}, None, ""),
        ({f"pid_40_{NVIDIA}_eng_5_engtype_Cuda": 99.0}, 0.0, ""),
        (
            {
                f"pid_40_{NVIDIA}_eng_0_engtype_3D": 80.0,
                f"pid_50_{NVIDIA}_eng_0_engtype_3D": 21.4,
                f"pid_60_{NVIDIA}_eng_0_engtype_3D": 3.2,
                f"pid_50_{NVIDIA}_eng_5_engtype_Compute_0": 4.0,
                f"pid_50_{NVIDIA}_eng_7_engtype_VideoDecode": 90.0,
                f"pid_50_{OTHER}_eng_0_engtype_3D": 95.0,
                "_Total": 100.0,
            },
            25.0,
            "blender.exe",
        ),
        (
            {
                f"pid_40_{NVIDIA}_eng_0_engtype_3D": 10.0,
                f"pid_70_{NVIDIA}_eng_0_engtype_3D": 70.0,
                f"pid_50_{NVIDIA}_eng_0_engtype_3D": 60.0,
            },
            100.0,
            "",
        ),
    ],
)
def test_who_else_uses_the_gpu(uses: dict[str, float], percent: float | None, program: str) -> None:
    """Programs of Windows, on the GPU that its Linux computes on, where they compute; its own part, films and
    another GPU do not count. Without a worker there nothing is said: the driver sees all then."""
    assert engines(uses)[0] == {"gpu_percent": percent, "gpu_program": program}


def test_the_first_look_has_no_rates() -> None:
    """Rates need two: until then their status is another."""
    uses = {f"pid_40_{NVIDIA}_eng_0_engtype_3D": 1.0, f"pid_50_{NVIDIA}_eng_0_engtype_3D": 99.0}
    assert engines(uses, status=0xC0000BC6)[0] == {"gpu_percent": None, "gpu_program": ""}


def test_counters_that_fail_are_opened_anew() -> None:
    """A driver may be replaced while this runs."""
    counters = Counters({f"pid_40_{NVIDIA}_eng_0_engtype_3D": 1.0})
    source = windows.Engines(counters.library(), lambda pid: "vmmem")
    assert source.read()["gpu_percent"] == 0.0
    counters.result = -1
    for _ in range(2):
        with pytest.raises(Unreadable):
            source.read()
    counters.result = 0
    assert source.read()["gpu_percent"] == 0.0


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (windows.Desktop, {"GetLastInputInfo": Call(returns=0)}),
        (windows.Session, {"WTSQuerySessionInformationW": Call(returns=0)}),
        (windows.Awake, {"CallNtPowerInformation": Call(returns=-1073741790)}),
        (windows.Mains, {"GetSystemPowerStatus": Call(returns=0)}),
        (windows.Engines, {"PdhOpenQueryW": Call(returns=-1073738819)}),
        (windows.Network, {"CoInitializeEx": Call(), "CoCreateInstance": Call(returns=-2147221164)}),
    ],
)
def test_a_call_that_fails_is_unknown(kind: Any, calls: dict[str, Any]) -> None:
    """Its fields are unknown then, and unknown is never idle."""
    with pytest.raises(Unreadable):
        kind(library(**calls)).read()


def test_elsewhere_it_tells_nothing() -> None:
    """The null answer."""
    assert windows.sources() == []
