"""The loop with a node over a swarm in memory and a worker of make-believe: what it does when, and what it
says."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core.errors import ModelError, SettingError
from core.meter import Traffic
from core.node import account, beginning
from core.node import loop as module
from core.node.checkpoint import Model
from core.node.delivery import Delivery, Report
from core.node.giver import Giver, Standing
from core.node.ledger import Ledger
from core.node.loop import Loop
from core.node.node import Node
from core.node.orders import Told
from core.paths import Paths, bundled_model
from core.pc import observe
from core.secrets import Secrets
from core.serving.counts import Counts
from core.serving.orders import WorkerConfig
from core.serving.supervisor import OnCounts, WorkerFailed
from core.settings import Change, Donate, Settings, changed
from core.swarm.fake import FakeSwarm
from core.terms import Because, PeerId, Progress, Reason, State


class MadeUpWorker:
    """Serves until it is stopped or drained."""

    made: ClassVar[list[MadeUpWorker]] = []

    def __init__(self) -> None:
        self.peer_id = PeerId("worker")
        self.on_counts: OnCounts | None = None
        self.trouble: Because | None = None
        self.on_trouble: Callable[[], None] = lambda: None
        self.own_only, self.rest = False, 0.0
        self.process = type("Process", (), {"pid": 1 << 22})()
        self.gone = asyncio.Event()
        self.drained: list[float] = []

    @classmethod
    async def start(cls, **_: object) -> MadeUpWorker:
        cls.made.append(cls())
        return cls.made[-1]

    def configure(self, *_: object) -> None: ...

    async def online(self) -> None: ...

    async def ended(self) -> None:
        await self.gone.wait()

    def failure(self) -> WorkerFailed:
        return WorkerFailed("it failed")

    async def drain(self, seconds: float) -> None:
        self.drained.append(seconds)
        await self.gone.wait()

    async def stop(self) -> None:
        self.gone.set()

    def serve_only(self, client: PeerId | None) -> None:
        self.own_only = client is not None

    def rest_for(self, part: float) -> None:
        self.rest = part


class OneSpan(Giver):
    """Delivers one span; ``fetches`` is what fetching ahead does."""

    fetched = 0
    fails = False

    async def _deliver(
        self, settings: Settings, report: Report, *, serves: bool = False
    ) -> AsyncIterator[Delivery]:
        yield Delivery(WorkerConfig("model", (0, 10), "key", str(self._paths.runtime)))

    async def fetch(self, settings: Settings, report: Report) -> None:
        self.fetched += 1
        report(Progress("fetching", 1, 2))
        if self.fails:
            raise ModelError("there is no such model")
        await asyncio.sleep(0.05)


class Desk:
    """A node's loop and the facts that it is told."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.paths = Paths.of(folder).make()
        self.node = Node(FakeSwarm().peer(), Model.read(bundled_model()), "test")
        self.giver = OneSpan(
            self.node, self.paths, Standing("127.0.0.1"), Secrets(self.paths.secrets_file), "test"
        )
        self.ledger = Ledger(self.paths.ledger_file)
        self.loop = Loop(self.node, self.giver, settings, Told(self.paths.state_file), self.ledger)

    @property
    def worker(self) -> MadeUpWorker:
        return MadeUpWorker.made[-1]

    def change(self, **values: object) -> None:
        change = Change(self.loop.settings, changed(self.loop.settings, values))
        self.loop.verify(change)
        self.loop.apply(change)

    async def until(self, state: State, reason: Reason | None = None) -> None:
        def is_so() -> bool:
            because = self.node.status.reason
            return self.node.status.state is state and (because and because.kind) is reason

        await self.wait(is_so, lambda: str(self.node.status))

    async def wait(self, condition: Callable[[], object], what: Callable[[], str] = str) -> None:
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(what())


@pytest.fixture(autouse=True)
def nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All facts are told; and rounds are quick."""
    MadeUpWorker.made.clear()
    monkeypatch.setattr(beginning, "Worker", MadeUpWorker)
    monkeypatch.setattr(module, "sources", lambda *_: [])
    monkeypatch.setattr(module, "ROUND_SECONDS", 0.02)
    monkeypatch.setattr(observe, "TOLD_SECONDS", 600.0)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path, Settings(donate=Donate.WHEN_IDLE, return_minutes=0.0))
    made.loop.tell({"idle_seconds": 900})
    await made.loop.start()
    await made.until(State.GIVING)
    yield made
    await made.loop.close()
    await made.node.close()


async def test_the_owner_is_back(desk: Desk) -> None:
    """The worker is ended at once, without any time for readers."""
    desk.loop.tell({"idle_seconds": 0})
    await desk.until(State.WAITING, Reason.INPUT)
    assert desk.worker.gone.is_set() and desk.worker.drained == []
    states = [event.state for event in desk.ledger.events]
    assert states[-3:] == [State.GIVING, State.LEAVING, State.WAITING]


async def test_who_told_of_input_and_fell_silent_is_not_believed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process told holds for seconds; then nobody knows whether the owner is there."""
    monkeypatch.setattr(observe, "TOLD_SECONDS", 0.2)
    await desk.until(State.WAITING, Reason.NO_IDLE_SOURCE)
    assert desk.worker.gone.is_set()


async def test_leaving_as_planned_gives_readers_time(desk: Desk) -> None:
    """It says that it leaves while it still serves; when the last reader has gone, it waits."""
    desk.loop.tell({"idle_seconds": 900, "on_battery": True})
    await desk.until(State.LEAVING, Reason.ON_BATTERY)
    assert desk.worker.drained == [30.0] and not desk.worker.gone.is_set()
    desk.worker.gone.set()
    await desk.until(State.WAITING, Reason.ON_BATTERY)


async def test_an_owner_who_comes_back_meanwhile_is_not_kept_waiting(desk: Desk) -> None:
    """What was planned ends at once then."""
    desk.loop.order("finish")
    await desk.until(State.LEAVING, Reason.PAUSED)
    assert desk.worker.drained == [600.0] and desk.node.status.finishing
    desk.loop.order("resume")
    desk.loop.tell({"idle_seconds": 0})
    await desk.until(State.WAITING, Reason.INPUT)
    assert desk.worker.gone.is_set() and not desk.node.status.finishing


async def test_another_part_may_speak_against_giving(desk: Desk) -> None:
    """Such as a quota, in its own words and as planned."""
    desk.loop.hindrances.append(lambda settings: Because(Reason.QUOTA, {"gb": 50}))
    await desk.until(State.LEAVING, Reason.QUOTA)
    assert desk.worker.drained == [30.0]


async def test_a_worker_that_fails_is_trouble(desk: Desk) -> None:
    """It is tried again, and the owner's return is still heard."""
    desk.worker.gone.set()
    await desk.until(State.TROUBLE, Reason.WORKER_FAILED)
    desk.loop.tell({"idle_seconds": 0})
    await desk.until(State.WAITING, Reason.INPUT)


async def test_a_form_that_changes_needs_another_worker(desk: Desk) -> None:
    """The old one ends, a new one begins; a setting that is not about serving leaves it alone."""
    desk.change(idle_minutes=4.0)
    await asyncio.sleep(0.1)
    assert len(MadeUpWorker.made) == 1
    desk.change(quantization="int8")
    await desk.wait(lambda: len(MadeUpWorker.made) == 2)
    assert MadeUpWorker.made[0].gone.is_set()
    desk.loop.tell({"idle_seconds": 900})
    await desk.until(State.GIVING)


async def test_what_a_worker_counts_is_added_once(desk: Desk) -> None:
    """Its sums, and the next worker's after it."""
    assert desk.node.on_counts is not None
    for worker, tokens in ((1, 5), (1, 5), (1, 9), (2, 3)):
        desk.node.on_counts(Counts(worker=worker, tokens=tokens, conversations=1, sessions=2))
    assert (desk.ledger.today.tokens, desk.ledger.today.conversations) == (12, 2)
    assert Ledger(desk.paths.ledger_file).today.tokens == 12
    await desk.wait(lambda: desk.node.status.today.tokens == 12 and desk.node.status.sessions == 2)


async def test_the_status_tells_of_an_order_that_was_just_given(desk: Desk) -> None:
    """Not of what held before it: commands and pages show what comes back."""
    said = []
    for action in ("pause", "resume", "finish"):
        desk.loop.order(action)
        await desk.loop.obey()
        because = desk.node.status.reason
        said.append((desk.node.status.state, because and because.kind))
        if action == "resume":
            await desk.until(State.GIVING)
    assert said == [(State.PAUSED, Reason.PAUSED), (State.LOADING, None), (State.LEAVING, Reason.PAUSED)]


@pytest.mark.parametrize("ticks", range(4))
async def test_it_ends_also_at_the_moment_of_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticks: int
) -> None:
    """However far the news has come through the event loop by then."""
    monkeypatch.setattr(module, "ROUND_SECONDS", 60.0)
    desk = Desk(tmp_path, Settings())
    await desk.loop.start()
    await asyncio.sleep(0.1)
    desk.loop._news.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await desk.loop.close()
    await desk.node.close()


async def test_give_now_and_its_end(desk: Desk) -> None:
    """Whatever the input, until it is stopped; without consent it is refused."""
    desk.loop.order("give")
    desk.loop.tell({"idle_seconds": 0})
    await desk.wait(lambda: desk.node.status.giving_until == 0.0)
    assert desk.node.status.state is State.GIVING
    desk.loop.order("resume")
    await desk.until(State.WAITING, Reason.INPUT)
    desk.change(donate="off")
    await desk.until(State.OFF, Reason.NO_CONSENT)
    with pytest.raises(SettingError, match="until you say so"):
        desk.loop.order("give")
    with pytest.raises(SettingError, match="none of pause"):
        desk.loop.order("dance")
    with pytest.raises(SettingError, match="there is no fact"):
        desk.loop.tell({"mood": 1})


@pytest.mark.parametrize(
    ("facts", "orders", "fetches"),
    [
        ({}, None, True),
        ({"metered": True}, None, False),
        ({}, "pause", False),
        ({"fullscreen": "game"}, None, True),
    ],
)
async def test_layers_are_fetched_while_the_owner_is_here(
    tmp_path: Path, facts: dict[str, Any], orders: str | None, fetches: bool
) -> None:
    """Unless the network costs money or everything is paused; once is enough."""
    desk = Desk(tmp_path, Settings(donate=Donate.WHEN_IDLE))
    if orders is not None:
        desk.loop.order(orders)
    desk.loop.tell({"idle_seconds": 0, **facts})
    await desk.loop.start()
    await asyncio.sleep(0.2)
    assert desk.giver.fetched == int(fetches)
    assert desk.node.status.progress is None and not desk.node.gives
    await desk.loop.close()
    await desk.node.close()


async def test_layers_that_cannot_be_had_are_tried_again_later(tmp_path: Path) -> None:
    """Not at once."""
    desk = Desk(tmp_path, Settings(donate=Donate.WHEN_IDLE))
    desk.giver.fails = True
    desk.loop.tell({"idle_seconds": 0})
    await desk.loop.start()
    await asyncio.sleep(0.2)
    assert desk.giver.fetched == 1 and not math.isinf(desk.loop._ahead.after)
    await desk.loop.close()
    await desk.node.close()


async def test_trouble_in_the_workers_own_network_is_said(desk: Desk) -> None:
    """Its p2pd is not this node's; what it serves is in trouble all the same, until it has recovered."""
    lost = Because(Reason.NETWORK_RESTARTS, {"why": "it ended"})
    desk.worker.trouble = lost
    desk.worker.on_trouble()
    await desk.until(State.TROUBLE, Reason.NETWORK_RESTARTS)
    desk.worker.trouble = None
    desk.worker.on_trouble()
    await desk.until(State.GIVING)
    desk.worker.trouble = lost
    desk.worker.gone.set()
    await desk.until(State.TROUBLE, Reason.WORKER_FAILED)


class MadeUpGauge:
    """Each look finds more."""

    def __init__(self) -> None:
        self.total = Traffic()

    def look(self, pid: int) -> Traffic:
        self.total += Traffic(1000, 100)
        return self.total


async def test_what_the_nodes_own_network_carries_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes into the ledger, and so into the month's quota, while nothing is given too; the rest at the
    end."""
    monkeypatch.setattr(account, "Gauge", MadeUpGauge)
    monkeypatch.setattr(account, "CARRIED_SECONDS", 0.02)
    monkeypatch.setattr(account, "KEEP_SECONDS", 0.05)
    desk = Desk(tmp_path, Settings(donate=Donate.OFF, monthly_gb=0.000_01))
    desk.node.peer.pid = 1 << 22  # type: ignore[misc]
    await desk.loop.start()
    await desk.wait(lambda: desk.ledger.today.up_bytes > 10_000)
    assert desk.ledger.today.down_bytes * 10 == desk.ledger.today.up_bytes
    hindrance = desk.loop._hindrance()
    assert hindrance is not None and hindrance.kind is Reason.QUOTA
    await desk.loop.close()
    assert desk.ledger.today.up_bytes == desk.loop._account._gauge.total.up
    await desk.node.close()
