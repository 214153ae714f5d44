"""A device that fails for its process, under a real node, a real worker and a replica."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from core.node import beginning
from core.node import node as module
from core.node.checkpoint import Model
from core.node.delivery import Delivery, Report
from core.node.node import Node
from core.paths import bundled_model
from core.routing.ask import Ask, Message, Moved, Piece, Started
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import start_peer
from core.terms import Because, PeerId, Reason, State, Status
from core.words import text
from tests.core.serving.poisoned import WORDS
from tests.end_to_end.programs import START_SECONDS

Disturb = Callable[[], Coroutine[Any, Any, None]]
STORY = Ask((Message("user", "Tell me a story"),))


class FragileWorker(Worker):
    """Its device fails when ``file`` appears."""

    file: Path

    @classmethod
    async def start(cls, **given: Any) -> Worker:
        command = (sys.executable, "-m", "tests.core.serving.poisoned", str(cls.file))
        return await super().start(**given, command=command)


async def answer(node: Node, disturb: Disturb | None = None) -> tuple[str, list[PeerId], int]:
    """The text, who gave it first, and how often the route changed; ``disturb`` is awaited in the middle."""
    said, moves, peers = "", 0, []
    async for event in node.generate(STORY):
        match event:
            case Started():
                peers = [stage.peer_id for stage in event.route.stages]
            case Piece():
                said += event.text
                if disturb is not None and len(said) > 30:
                    await disturb()
                    disturb = None
            case Moved():
                moves += 1
    return said, peers, moves


async def test_a_lost_device_ends_the_worker_which_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer goes on over the replica, the same text; the status says what happened; then it serves
    again, from a process that has the device anew."""
    FragileWorker.file = tmp_path / "poison"
    monkeypatch.setattr(beginning, "Worker", FragileWorker)
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.5,))
    peer = await start_peer(identity=tmp_path / "node.key", runtime=tmp_path)
    node = Node(peer, Model.read(bundled_model()), "test")

    def config(name: str) -> WorkerConfig:
        model, identity, folder = str(bundled_model()), str(tmp_path / name), str(tmp_path)
        return WorkerConfig(model, (0, 10), identity, folder, peer.addresses, dtype="float32", rest=0.01)

    async def deliver(_: Report) -> AsyncIterator[Delivery]:
        yield Delivery(config("worker.key"))

    seen: list[Status] = []
    gives = asyncio.Event()

    def watch(status: Status) -> None:
        seen.append(status)
        if status.state is State.GIVING:
            gives.set()

    node.watchers.append(watch)
    replica = await Worker.start(log=tmp_path / "replica.log", threads=1)
    node.give(deliver, tmp_path / "worker.log")

    async def poison() -> None:
        """Not before there is someone to go on."""
        replica.configure(config("replica.key"))
        await replica.online()
        gives.clear()
        FragileWorker.file.touch()

    try:
        await asyncio.wait_for(gives.wait(), START_SECONDS)
        assert node.worker is not None and node.worker.peer_id is not None
        pid, donor = node.worker.process.pid, node.worker.peer_id
        whole = await answer(node)
        assert whole == (whole[0], [donor], 0)
        assert await answer(node, poison) == (whole[0], [donor], 1)
        await asyncio.wait_for(gives.wait(), START_SECONDS)
        trouble = next(one for one in seen if one.state is State.TROUBLE)
        assert trouble.reason is not None and trouble.span is None
        assert f"cpu failed in a step ({WORDS})" in text(trouble.reason)
        assert node.worker is not None and node.worker.process.pid != pid
        await replica.stop()
        assert await answer(node) == (whole[0], [donor], 0)
    finally:
        await replica.stop()
        await node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
        await node.close()
        await peer.close()
