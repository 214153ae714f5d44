"""A desktop PC that is whole but for its hardware: a node of its own on a real X server, with a GPU and
system services that tell what the test sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from core.door import find_running
from tests.end_to_end.programs import START_SECONDS, Folder, Program, folder, until
from tests.fake_bus import FakeBus, fake_bus
from tests.fake_gpu import FakeGpu
from tests.screen import Screen, virtual_screen

SOON = 20.0
"""Generous: how long something may take that is nearly immediate on a PC that is not testing."""
SETTINGS = {"device": "cpu", "donate": "when_idle", "idle_minutes": 0.05, "return_minutes": 0.05}
"""Three seconds are idle, and three seconds are quiet."""


@dataclass
class Desk:
    place: Folder
    screen: Screen
    bus: FakeBus
    gpu: FakeGpu
    program: Program

    def look(self, path: str = "/api/status?once=1") -> Any:
        return self.node().request(path)

    def order(self, action: str, duration: str | None = None) -> Any:
        return self.node().request("/api/donate", {"action": action, "for": duration})

    def tell(self, **facts: object) -> None:
        self.node().request("/api/facts", facts)

    def set(self, **settings: object) -> None:
        self.node().request("/api/settings", settings, method="PUT")

    def node(self) -> Any:
        found = find_running(self.place.path / "data" / "run" / "door.json")
        assert found is not None
        return found

    def gives(self) -> None:
        """Returns when others are served."""
        until(lambda: self.look()["state"] == "giving", START_SECONDS, str(self.look()))

    def yields(self, reason: str) -> dict[str, Any]:
        """Returns when nothing is given for this reason and the worker is gone; the reason as it is told."""

        def has_gone() -> bool:
            now = self.look()
            kind = (now["reason"] or {}).get("kind")
            return now["state"] not in ("giving", "leaving") and kind == reason and not self.program.workers()

        until(has_gone, SOON, f"{reason}: {self.look()['state']} {self.look()['reason']}")
        found = self.look()["reason"]
        assert isinstance(found, dict)
        return found

    def work(self, percent: int) -> tuple[tuple[int, str], ...]:
        """For the card: our worker, whichever lives, uses so much of it; it names who started it."""
        return ((percent, f"core.serving.worker {self.program.process.pid}"),)

    def memory(self) -> int:
        """Bytes of the GPU that our worker holds, as the driver counts them at this moment."""
        return sum(worker.memory_info().rss for worker in self.program.workers())


@contextmanager
def desk(gpu: FakeGpu, **settings: object) -> Iterator[Desk]:
    """A PC whose node runs."""
    with folder() as place, virtual_screen() as screen, fake_bus() as bus:
        for name, value in (SETTINGS | settings).items():
            assert place.run("settings", "set", name, str(value)).process.returncode == 0
        environment = screen.environment | bus.environment | gpu.environment
        program = place.start("node", "--port", "0", environment=environment)
        program.line()
        made = Desk(place, screen, bus, gpu, program)
        gpu.set(match=made.work(0))
        yield made


def while_(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it holds all the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            return False
        time.sleep(0.05)
    return True
