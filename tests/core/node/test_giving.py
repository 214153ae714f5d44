"""What a node does about a worker that fails, with a worker that fails when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import pytest

from core.errors import TooLittle
from core.node import beginning
from core.node import node as module
from core.node.checkpoint import Model
from core.node.delivery import Delivery, Report
from core.node.node import Node
from core.paths import bundled_model
from core.serving.orders import WorkerConfig
from core.serving.supervisor import WorkerFailed
from core.swarm.fake import FakeSwarm
from core.terms import Because, Reason, Span, State, Status


class FailingWorker:
    """Says that it is online, then ends."""

    started = 0
    lives_seconds = 0.0
    trouble = None

    @classmethod
    async def start(cls, **_: object) -> FailingWorker:
        cls.started += 1
        return cls()

    def configure(self, *_: object) -> None:
        pass

    async def online(self) -> None:
        pass

    async def ended(self) -> None:
        await asyncio.sleep(self.lives_seconds)

    def failure(self) -> WorkerFailed:
        return WorkerFailed("out of luck")

    async def stop(self) -> None:
        pass


async def giving(tmp_path: Path, statuses: int) -> list[Status]:
    """The first snapshots of a node whose worker keeps failing."""
    node = Node(FakeSwarm().peer(), Model.read(bundled_model()), "test")
    seen: list[Status] = []
    enough = asyncio.Event()

    def watch(status: Status) -> None:
        seen.append(status)
        if len([one for one in seen if one.state is State.TROUBLE]) >= statuses:
            enough.set()

    node.watchers.append(watch)

    async def deliver(_: Report) -> AsyncIterator[Delivery]:
        yield Delivery(WorkerConfig("model", (0, 10), "key", str(tmp_path)))

    node.give(deliver, tmp_path / "log")
    await asyncio.wait_for(enough.wait(), 10)
    await node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
    assert node.status.state is State.OFF and node.status.span is None
    await node.close()
    return seen


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the node made before it tried again, none of them waited for."""
    monkeypatch.setattr(beginning, "Worker", FailingWorker)
    made: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds in module.RETRY_SECONDS and seconds != module.LOOK_SECONDS:
            made.append(seconds)
        await sleep(0.001)

    monkeypatch.setattr(module, "RETRY_SECONDS", (5.5, 15.0, 60.0))
    monkeypatch.setattr(module.asyncio, "sleep", note)
    return made


async def test_the_pauses_grow(tmp_path: Path, pauses: list[float]) -> None:
    """A worker that ends soon after each start is started again, later each time; the status says why."""
    seen = await giving(tmp_path, 5)
    assert pauses[:4] == [5.5, 15.0, 60.0, 60.0]
    states = [state for state, _ in groupby(seen, lambda one: one.state) if state is not State.OFF]
    assert states[:3] == [State.LOADING, State.GIVING, State.TROUBLE]
    trouble = next(one for one in seen if one.state is State.TROUBLE)
    assert trouble.reason is not None and trouble.reason.args == {"why": "out of luck"}
    assert trouble.reason.until is not None and trouble.span is None


async def test_the_pauses_begin_anew_after_a_steady_worker(
    tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that served for long was well."""
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.0)
    await giving(tmp_path, 4)
    assert set(pauses) == {5.5}


class MovingWorker(FailingWorker):
    """Serves until it is told to leave."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def ended(self) -> None:
        await self.gone.wait()

    async def drain(self, seconds: float) -> None:
        self.gone.set()


async def serves(node: Node, span: Span) -> None:
    for _ in range(1000):
        if node.serving == span:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(str(node.status))


async def test_a_worker_that_goes_far_is_started_anew_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the layers of the new place; nothing is said to be wrong."""
    monkeypatch.setattr(beginning, "Worker", MovingWorker)
    node = Node(FakeSwarm().peer(), Model.read(bundled_model()), "test")
    seen: list[Status] = []
    node.watchers.append(seen.append)
    spans = iter([(0, 3), (6, 9)])

    async def deliver(_: Report) -> AsyncIterator[Delivery]:
        yield Delivery(WorkerConfig("model", next(spans), "key", str(tmp_path)))

    node.give(deliver, tmp_path / "log")
    await serves(node, Span(0, 3))
    await node.move(Span(6, 9))
    await serves(node, Span(6, 9))
    assert all(status.state is not State.TROUBLE for status in seen)
    await node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
    await node.close()


class CountedWorker(MovingWorker):
    """Knows who was started and who was stopped."""

    starts: ClassVar[list[CountedWorker]] = []
    stopped = False

    @classmethod
    async def start(cls, **_: object) -> CountedWorker:
        cls.starts.append(cls())
        return cls.starts[-1]

    async def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize(("takes", "starts"), [(0.0, 1), (0.3, 2)], ids=["here", "to be fetched"])
async def test_a_worker_starts_while_its_layers_are_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float, starts: int
) -> None:
    """It is the one that serves where they are here; where they have to be fetched, none waits for them."""
    CountedWorker.starts.clear()
    monkeypatch.setattr(beginning, "Worker", CountedWorker)
    monkeypatch.setattr(beginning, "AHEAD_SECONDS", 0.1)
    node = Node(FakeSwarm().peer(), Model.read(bundled_model()), "test")
    waited: list[int] = []

    async def deliver(_: Report) -> AsyncIterator[Delivery]:
        await asyncio.sleep(takes)
        waited.append(sum(not one.stopped for one in CountedWorker.starts))
        yield Delivery(WorkerConfig("model", (0, 3), "key", str(tmp_path)))

    node.give(deliver, tmp_path / "log")
    await serves(node, Span(0, 3))
    assert len(CountedWorker.starts) == starts and waited == [2 - starts]
    await node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
    assert all(one.stopped for one in CountedWorker.starts)
    await node.close()


async def test_a_worker_that_was_started_ahead_does_not_outlive_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a delivery that fails, or an owner who comes back while it is awaited."""
    CountedWorker.starts.clear()
    monkeypatch.setattr(beginning, "Worker", CountedWorker)
    node = Node(FakeSwarm().peer(), Model.read(bundled_model()), "test")
    fails = asyncio.Event()

    async def deliver(_: Report) -> AsyncIterator[Delivery]:
        if fails.is_set():
            raise TooLittle("no layer fits")
        await asyncio.sleep(60)
        yield Delivery(WorkerConfig("model", (0, 3), "key", str(tmp_path)))

    for prepare in (fails.set, fails.clear):
        prepare()
        node.give(deliver, tmp_path / "log")
        await asyncio.sleep(0.05)
        await node.stop_giving(State.WAITING, Because(Reason.INPUT))
        assert CountedWorker.starts and all(one.stopped for one in CountedWorker.starts)
    await node.close()
