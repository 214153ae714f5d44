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
    return SimpleNamespace(user32=one, kernel32=one, shell32=one, wtsapi32=one, powrprof=one, ole32=one)


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


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (windows.Desktop, {"GetLastInputInfo": Call(returns=0)}),
        (windows.Session, {"WTSQuerySessionInformationW": Call(returns=0)}),
        (windows.Awake, {"CallNtPowerInformation": Call(returns=-1073741790)}),
        (windows.Mains, {"GetSystemPowerStatus": Call(returns=0)}),
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
