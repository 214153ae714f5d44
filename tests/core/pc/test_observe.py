from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core.pc import observe
from core.pc.observe import GpuSource, Observer, check_told
from core.pc.source import Reading, Source, Unreadable
from core.pc.system import Battery, Programs
from core.terms import Facts
from tests.fake_gpu import LOST, FakeGpu


class Spoken:
    """A source that reads what the test says."""

    every: ClassVar[float] = 0.01

    def __init__(self, **values: Any) -> None:
        self.values: Reading | None = values
        self.hang = threading.Event()
        self.hang.set()
        self.closed = threading.Event()

    def read(self) -> Reading:
        self.hang.wait()
        if self.values is None:
            raise Unreadable("it does not say")
        return self.values

    def close(self) -> None:
        self.closed.set()


class Watched:
    """An observer whose changes are counted."""

    def __init__(self, *sources: Source) -> None:
        self.changes = threading.Semaphore(0)
        self.observer = Observer(lambda: sources, self.changes.release, pause=0.0)
        self.observer.wait()

    def settle(self) -> None:
        """All that has changed so far is known."""
        time.sleep(0.1)
        while self.changes.acquire(blocking=False):
            pass

    def until(self, **values: object) -> Facts:
        end = time.monotonic() + 10
        while True:
            facts = self.observer.facts()
            if all(getattr(facts, name) == value for name, value in values.items()):
                return facts
            assert time.monotonic() < end, facts
            time.sleep(0.01)


@pytest.fixture
def watch() -> Iterator[Any]:
    made: list[Watched] = []

    def make(*sources: Source) -> Watched:
        made.append(Watched(*sources))
        return made[-1]

    yield make
    for one in made:
        one.observer.close()


def test_facts_of_all_sources_come_together(watch: Any) -> None:
    """At the end of the wait every source has been read; what none tells is unknown."""
    facts = watch(Spoken(idle_seconds=7.0), Spoken(on_battery=False, metered=None)).observer.facts(3.0)
    assert (facts.idle_seconds, facts.on_battery, facts.metered, facts.locked) == (7.0, False, None, None)
    assert facts.own_chat_seconds == 3.0 and 0 <= facts.minute < 7 * 1440
    assert facts.now == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize(
    ("name", "one", "other", "both"),
    [
        ("idle_seconds", 5.0, 9.0, 5.0),
        ("idle_seconds", None, 9.0, 9.0),
        ("inhibitor", "", "mpv", "mpv"),
        ("locked", True, False, False),
        ("on_battery", False, True, True),
        ("fullscreen", "", None, ""),
    ],
)
def test_of_two_sources_the_one_against_giving_counts(
    watch: Any, name: str, one: object, other: object, both: object
) -> None:
    """And the one that knows, where the other does not."""
    for values in ((one, other), (other, one)):
        made = watch(*(Spoken(**{name: value}) for value in values))
        assert getattr(made.observer.facts(), name) == both


def test_news_is_told_and_time_that_passes_is_none(watch: Any) -> None:
    """Input is news; a second more without it is not."""
    source = Spoken(idle_seconds=7.0)
    made = watch(source)
    made.settle()
    source.values = {"idle_seconds": 8.0}
    made.until(idle_seconds=8.0)
    assert not made.changes.acquire(timeout=0.1)
    source.values = {"idle_seconds": 0.0}
    assert made.changes.acquire(timeout=10)


def test_a_source_that_fails_is_unknown(watch: Any) -> None:
    """Until it can be read again."""
    source = Spoken(idle_seconds=7.0)
    made = watch(source)
    source.values = None
    made.until(idle_seconds=None)
    source.values = {"idle_seconds": 9.0}
    made.until(idle_seconds=9.0)


def test_a_source_that_hangs_is_unknown_and_holds_up_nothing(
    watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last reading is not believed for ever."""
    monkeypatch.setattr(observe, "LATE_SECONDS", 0.2)
    hanging, fine = Spoken(idle_seconds=7.0), Spoken(on_battery=False)
    made = watch(hanging, fine)
    made.until(idle_seconds=7.0)
    hanging.hang.clear()
    assert made.until(idle_seconds=None).on_battery is False
    fine.values = {"on_battery": True}
    made.until(on_battery=True)
    hanging.hang.set()
    made.until(idle_seconds=7.0)


def test_who_hangs_at_the_start_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node starts all the same."""
    monkeypatch.setattr(observe, "FIRST_SECONDS", 0.1)
    hanging = Spoken(idle_seconds=7.0)
    hanging.hang.clear()
    observer = Observer(lambda: [hanging], lambda: None)
    observer.wait()
    assert observer.facts().idle_seconds is None
    observer.close()
    hanging.hang.set()
    assert hanging.closed.wait(10)


def test_another_process_may_tell_facts(watch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They join what is read here, and hold for a few seconds."""
    made = watch(Spoken(on_battery=False))
    made.settle()
    said = {"idle_seconds": 400, "fullscreen": "", "locked": None, "programs": ["game.exe"]}
    made.observer.tell(check_told(said))
    assert made.changes.acquire(timeout=10)
    facts = made.observer.facts()
    assert (facts.idle_seconds, facts.fullscreen, facts.locked) == (400, "", None)
    assert facts.programs == ("game.exe",)
    monkeypatch.setattr(observe, "TOLD_SECONDS", 0.0)
    assert made.observer.facts().idle_seconds is None


@pytest.mark.parametrize(
    "said",
    [
        [],
        {"gpu": None},
        {"now": 3},
        {"idle_seconds": "7"},
        {"idle_seconds": True},
        {"idle_seconds": -1},
        {"idle_seconds": float("nan")},
        {"idle_seconds": float("inf")},
        {"locked": 1},
        {"fullscreen": "a\nb"},
        {"inhibitor": "x" * 300},
        {"programs": "game.exe"},
        {"programs": ["a"] * 65},
        {"programs": ["a\nb"]},
        {"programs": [3]},
    ],
)
def test_odd_facts_are_refused(said: object) -> None:
    """Each in words."""
    with pytest.raises(ValueError, match="fact"):
        check_told(said)


def test_named_programs_are_seen(tmp_path: Path) -> None:
    """By name, however it is written; long names too, which the system cuts off."""
    program = tmp_path / "a-very-long-name-of-a-game"
    program.symlink_to("/bin/sleep")
    copy = tmp_path / "tiny-game"
    copy.write_bytes(Path("/bin/sleep").read_bytes())
    copy.chmod(0o755)
    with subprocess.Popen([copy, "60"]) as process:
        source = Programs(lambda: ("Tiny-Game.exe", "nobody-runs-this"))
        assert source.read() == {"programs": ("Tiny-Game.exe",)}
        process.kill()
    assert source.read() == {"programs": ()}
    assert Programs(tuple).read() == {"programs": ()}


def test_a_pc_without_a_battery_is_not_on_it() -> None:
    """Unknown would mean that it might be."""
    source = Battery.open()
    assert source is not None and source.read()["on_battery"] in (True, False)


def test_without_the_systems_devices_the_battery_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without /sys; the thread that reads goes on."""
    monkeypatch.setattr("psutil._pslinux.POWER_SUPPLY_PATH", "/nowhere")
    with pytest.raises(Unreadable, match="battery"):
        Battery().read()


def test_a_gpu_that_never_was_is_no_fact(fake_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was there and is lost is."""
    fake_gpu.load()
    monkeypatch.setenv("FAKE_NVML_STATE", str(fake_gpu.state))
    monkeypatch.setattr(GpuSource, "away_seconds", 0.0)
    source = GpuSource(0, tuple)
    fake_gpu.set(error=LOST)
    assert source.read() == {"gpu": None}
    fake_gpu.set(error=0)
    assert source.read()["gpu"].celsius == 45
    fake_gpu.set(error=LOST)
    assert "lost" in source.read()["gpu"].trouble
    source.close()
