"""The services of a Linux desktop, over a real bus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from core.pc import bus, linux
from core.pc.source import Reading, Source, Unreadable
from tests.fake_bus import LOGIN, MUTTER, NETWORK, POWER, SESSION, FakeBus, fake_bus


@pytest.fixture(scope="module")
def whole_bus() -> Iterator[FakeBus]:
    with fake_bus(LOGIN, NETWORK, POWER, MUTTER, SESSION) as made:
        yield made


@pytest.fixture
def desk(whole_bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    whole_bus.__init__(whole_bus.address, whole_bus.names)  # type: ignore[misc]
    for name, value in whole_bus.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("XDG_SESSION_ID", raising=False)
    return whole_bus


def read(opener: Callable[[], Source | None]) -> Reading:
    source = opener()
    assert source is not None
    try:
        return source.read()
    finally:
        source.close()


def test_a_session_is_locked_and_in_front(desk: FakeBus) -> None:
    """As logind knows it."""
    assert read(linux.SessionState.open) == {"locked": False, "switched_out": False}
    desk.locked, desk.active = True, False
    assert read(linux.SessionState.open) == {"locked": True, "switched_out": True}


def test_a_named_session_that_has_ended_is_no_matter(desk: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that outlives its session is asked about the user's."""
    monkeypatch.setenv("XDG_SESSION_ID", "c17")
    assert read(linux.SessionState.open) == {"locked": False, "switched_out": False}


def test_idle_as_logind_says(desk: FakeBus) -> None:
    """Since when, on a clock that does not jump; not idle is no time at all."""
    assert read(linux.LogindIdle.open) == {"idle_seconds": 0.0}
    desk.idle_hint, desk.idle_since = True, int((time.monotonic() - 77) * 1e6)
    assert read(linux.LogindIdle.open)["idle_seconds"] == pytest.approx(77, abs=2)


def test_idle_as_gnome_says(desk: FakeBus) -> None:
    """In milliseconds there."""
    desk.idle_ms = 12_345
    assert read(linux.MutterIdle.open) == {"idle_seconds": 12.345}


def test_who_keeps_the_screen_awake(desk: FakeBus) -> None:
    """By logind's list and by GNOME's; keeping the PC from sleeping is something else."""
    desk.inhibitors = [("ModemManager", "sleep")]
    assert read(linux.LogindInhibitors.open) == {"inhibitor": ""}
    desk.inhibitors += [("mpv", "idle:sleep")]
    assert read(linux.LogindInhibitors.open) == {"inhibitor": "mpv"}
    assert read(linux.DesktopInhibitors.open) == {"inhibitor": ""}
    desk.gnome_inhibitor = "org.gnome.Totem"
    assert read(linux.DesktopInhibitors.open) == {"inhibitor": "org.gnome.Totem"}


@pytest.mark.parametrize(
    ("word", "metered"), [(0, None), (1, True), (2, False), (3, True), (4, False), (9, None)]
)
def test_metered_networks(desk: FakeBus, word: int, metered: bool | None) -> None:
    """NetworkManager's guesses count; what it does not know is unknown."""
    desk.metered = word
    assert read(linux.Metered.open) == {"metered": metered}


def test_mains_power(desk: FakeBus) -> None:
    """Of the whole PC, whatever batteries mice have."""
    assert read(linux.Mains.open) == {"on_battery": False}
    desk.on_battery = True
    assert read(linux.Mains.open) == {"on_battery": True}


def test_a_service_that_hangs_is_unknown(desk: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for long."""
    monkeypatch.setattr(bus, "SECONDS", 0.2)
    source = linux.Mains.open()
    assert source is not None
    desk.silent = True
    with pytest.raises(Unreadable):
        source.read()
    desk.silent = False
    assert source.read() == {"on_battery": False}
    source.close()


EVERY = (
    linux.SessionState,
    linux.LogindIdle,
    linux.LogindInhibitors,
    linux.MutterIdle,
    linux.DesktopInhibitors,
    linux.Metered,
    linux.Mains,
)


@pytest.mark.parametrize("kind", EVERY)
def test_no_bus_is_the_null_answer(kind: type[linux.Mains], monkeypatch: pytest.MonkeyPatch) -> None:
    """A PC without D-Bus has none of them."""
    for name in ("SYSTEM", "SESSION"):
        monkeypatch.setenv(f"DBUS_{name}_BUS_ADDRESS", "unix:path=/nowhere/at/all")
    assert kind.open() is None


def test_a_bus_without_the_services_is_the_null_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started for the question."""
    with fake_bus("org.example.Nothing") as empty:
        for name, value in empty.environment.items():
            monkeypatch.setenv(name, value)
        assert [kind.open() for kind in EVERY] == [None] * len(EVERY)
    assert linux.first() is None
