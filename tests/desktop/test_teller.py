"""What the tray tells the node of the side that the node cannot see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, ClassVar

import pytest
from PySide6.QtWidgets import QApplication

from core.pc.observe import check_told
from core.pc.source import Reading
from desktop import teller
from desktop.client import Client
from desktop.teller import Teller
from tests.desktop.door_server import FakeDoor, status

Until = Callable[[Callable[[], object]], None]


class Spoken:
    """A source that reads what the test says, and which names it was to look for."""

    every: ClassVar[float] = 0.02

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"idle_seconds": 7.0, "locked": False}
        self.names: Callable[[], Collection[str]] = tuple
        self.closed = threading.Event()

    def read(self) -> Reading:
        return {**self.values, "programs": tuple(self.names())}

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def source() -> Spoken:
    return Spoken()


@pytest.fixture
def told(
    qt: QApplication, door: FakeDoor, source: Spoken, until: Until, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[dict[str, Any]]]:
    """What the door has heard from a teller that follows it."""
    monkeypatch.setattr(teller, "EVERY_MS", 20)

    def find(names: Callable[[], Collection[str]]) -> list[Spoken]:
        source.names = names
        return [source]

    client = Client()
    made = Teller(client, find=find)
    client.attach(door.running(1))
    until(lambda: door.donated)
    yield door.donated
    made.stop()
    client.detach()
    assert source.closed.wait(10)


def test_facts_are_told_again_and_again(told: list[dict[str, Any]], until: Until) -> None:
    """Each time all of them, as the door takes them; what is not known here is said to be unknown."""
    until(lambda: len(told) > 3)
    facts = check_told(told[-1])
    assert (facts["idle_seconds"], facts["locked"], facts["on_battery"]) == (7.0, False, None)
    assert "gpu" not in facts


def test_news_is_told_at_once(
    told: list[dict[str, Any]], source: Spoken, door: FakeDoor, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key while something is given does not wait for the next turn."""
    door.say(status("giving"))
    source.values = {"idle_seconds": 0.0, "locked": False}
    until(lambda: told[-1]["idle_seconds"] == 0.0)


def test_named_programs_are_looked_for(
    told: list[dict[str, Any]], door: FakeDoor, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are the node's setting, asked for now and then."""
    monkeypatch.setattr(teller, "NAMES_EVERY", 2)
    from core.settings import changed

    door.settings = changed(door.settings, {"yield_programs": ["game.exe"]})
    until(lambda: told[-1]["programs"] == ["game.exe"])


def test_nothing_is_told_without_a_node(
    qt: QApplication, source: Spoken, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until one is there; then it is."""
    monkeypatch.setattr(teller, "EVERY_MS", 5)
    client = Client()
    asked: list[object] = []
    monkeypatch.setattr(client, "tell", asked.append)
    made = Teller(client, find=lambda names: [source])
    made._observer.wait()
    for _ in range(20):
        QApplication.processEvents()
    assert asked == []
    made.stop()
