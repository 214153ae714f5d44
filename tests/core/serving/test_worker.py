"""Worker processes over the real network: they serve, leave as planned, and end amid an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.model.config import read_config
from core.model.text import Text
from core.paths import bundled_model
from core.routing.ask import Ask, Ended, Message, Moved, Piece, Started
from core.routing.generate import Generator
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import HivemindPeer, start_peer

STORY = Ask((Message("user", "Tell me a story"),))


@dataclass
class Swarm:
    """A client and workers that each hold the whole bundled model."""

    peer: HivemindPeer
    workers: list[Worker]
    generator: Generator

    def serving(self, started: Started) -> Worker:
        return next(w for w in self.workers if w.peer_id == started.route.entry.peer_id)


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    workers = [await Worker.start(log=tmp_path / f"{n}.log", threads=1) for n in range(3)]
    peer = await start_peer(identity=tmp_path / "client.key", runtime=tmp_path)
    for number, worker in enumerate(workers):
        worker.configure(
            WorkerConfig(
                model=str(bundled_model()),
                span=(0, 10),
                identity=str(tmp_path / f"{number}.key"),
                runtime=str(tmp_path),
                peers=peer.addresses,
                dtype="float32",
                rest=0.01,
                threads=1,
            )
        )
        await worker.online()
    generator = Generator(peer, read_config(bundled_model()), Text(bundled_model()))
    yield Swarm(peer, workers, generator)
    await generator.leave()
    for worker in workers:
        await worker.stop()
    await peer.close()


async def test_an_answer_survives_a_worker_that_leaves_and_one_that_dies(swarm: Swarm) -> None:
    """The same text as undisturbed: once moved off while the worker served, once recovered."""
    texts = []
    for disturbance in ("none", "leaves", "dies"):
        text, moves, leaving, dead = "", 0, None, False
        async for event in swarm.generator.generate(STORY):
            match event:
                case Started():
                    serving = swarm.serving(event)
                case Piece():
                    text += event.text
                    if disturbance == "leaves" and leaving is None and len(text) > 40:
                        leaving = asyncio.create_task(serving.drain(30))
                    elif disturbance == "dies" and not dead and len(text) > 40:
                        serving.process.kill()
                        dead = True
                case Moved():
                    moves += 1
                case Ended():
                    texts.append(text)
        if leaving is not None:
            await leaving
            assert serving.process.returncode == 0
        assert moves == (disturbance != "none")
    assert texts[0] == texts[1] == texts[2]
