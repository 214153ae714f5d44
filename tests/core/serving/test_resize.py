"""A donor that serves other layers, or runs short of memory, while readers read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from core.errors import IdlebloomError
from core.model.config import read_config
from core.model.span import Rows, SpanModel
from core.model.text import Text
from core.paths import bundled_model
from core.routing.ask import Ask, Message, Moved, Piece, Started
from core.routing.generate import Generator
from core.serving import donor as module
from core.serving.donor import DonorOptions
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import HivemindPeer, start_peer
from core.terms import Span
from tests.core.rings import fake_ring, greedy, make_checkpoint, reference

STORY = Ask((Message("user", "Tell me a story"),), max_tokens=90)


@dataclass
class Swarm:
    peer: HivemindPeer
    generator: Generator
    folder: Path
    workers: list[Worker]

    async def add(self, span: tuple[int, int], **options: Any) -> Worker:
        number = len(self.workers)
        worker = await Worker.start(log=self.folder / f"{number}.log", threads=1)
        self.workers.append(worker)
        config = WorkerConfig(
            str(bundled_model()),
            span,
            str(self.folder / f"{number}.key"),
            str(self.folder),
            peers=self.peer.addresses,
            dtype="float32",
            threads=1,
            **options,
        )
        worker.configure(config)
        await worker.online()
        return worker

    async def spans(self) -> dict[str, Span]:
        records = await self.generator.records(fresh=True)
        return {record.peer_id: record.span for record in records}


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    peer = await start_peer(identity=tmp_path / "client.key", runtime=tmp_path)
    generator = Generator(peer, read_config(bundled_model()), Text(bundled_model()))
    made = Swarm(peer, generator, tmp_path, [])
    yield made
    await generator.leave()
    for worker in made.workers:
        await worker.stop()
    await peer.close()


async def test_a_span_shrinks_and_grows_amid_an_answer(swarm: Swarm) -> None:
    """A worker drops layers while an answer runs through them: the answer moves and its text stays the
    same. It takes them back, and serves all again, as the same process; layers that the model does not
    have are refused."""
    first = await swarm.add((0, 10), rest=0.2)
    pid, expected = first.process.pid, await answer(swarm, replace(STORY, max_tokens=20))
    await swarm.add((4, 10), rest=0.2)
    text, moves, resizing = "", 0, None
    async with aclosing(swarm.generator.generate(replace(STORY, max_tokens=250))) as events:
        async for event in events:
            match event:
                case Started():
                    spans = [stage.span for stage in event.route.stages if stage.peer_id == first.peer_id]
                    assert spans == [Span(0, 10)]
                case Piece():
                    text += event.text
                    if resizing is None:
                        resizing = asyncio.create_task(first.resize(Span(0, 6), 60))
                    if moves and len(text) > len(expected) + 10:
                        break
                case Moved():
                    moves += 1
    assert moves
    assert text.startswith(expected.rstrip("\ufffd "))
    assert resizing is not None and (await resizing).span == Span(0, 6)
    assert (await swarm.spans())[str(first.peer_id)] == Span(0, 6)

    refused = await first.resize(Span(0, 12))
    assert refused.span == Span(0, 6) and "outside this model's layers" in refused.trouble
    grown = await first.resize(Span(0, 10))
    assert (grown.span, grown.trouble, first.process.pid) == (Span(0, 10), "", pid)
    await swarm.workers.pop().stop()
    assert await answer(swarm, replace(STORY, max_tokens=20)) == expected


async def answer(swarm: Swarm, ask: Ask) -> str:
    pieces = [event.text async for event in swarm.generator.generate(ask) if isinstance(event, Piece)]
    return "".join(pieces)


def taken(worker: Worker) -> int:
    """Bytes that the worker and its p2pd take, mapped files left out."""
    process = psutil.Process(worker.process.pid)
    found = [one.memory_info() for one in (process, *process.children())]
    return sum(one.rss - one.shared for one in found)


async def test_a_memory_cap_holds_under_16_sessions(swarm: Swarm) -> None:
    """With room for a few long sessions, sixteen are answered, wait or are refused in words, and the cap is
    never passed."""
    probe = await swarm.add((0, 10), cache_tokens=2048)
    base = taken(probe)
    await probe.stop()
    cap = base + (110 << 20)
    # Two more GB of cache than the cap allows.
    worker = await swarm.add((0, 10), cache_tokens=200_000, memory_cap=cap, log_bytes=16 << 20)
    most, ended = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, taken(worker))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    prompt = "Tell me a story. " * 110
    asks = [Ask((Message("user", f"{n} {prompt}"),), max_tokens=20, conversation=f"c{n}") for n in range(16)]
    outcomes = await asyncio.gather(*(outcome(swarm, ask) for ask in asks))
    ended.set()
    await watching
    assert worker.process.returncode is None
    assert base < most <= cap, (base, most, cap)
    assert outcomes.count("answered") >= 2
    assert await outcome(swarm, STORY) == "answered"


async def outcome(swarm: Swarm, ask: Ask) -> str:
    try:
        await asyncio.wait_for(answer(swarm, ask), 8)
    except TimeoutError:
        return "waits"
    except IdlebloomError as error:
        return str(error)
    return "answered"


async def test_a_step_without_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device runs out of memory for a while: the session goes on over another donor with the same
    text, the donor stays, lends less where that happens again, and serves as soon as it can."""
    folder = make_checkpoint(tmp_path)
    expected, ids = greedy(reference(folder), [5, 6, 7], 20), [5, 6, 7]
    async with fake_ring(folder, [(0, 8), (0, 8)]) as ring:
        failing: list[SpanModel] = []
        run = SpanModel.run

        def fails(self: SpanModel, batch: Sequence[Rows], pool: Any) -> list[torch.Tensor]:
            if self is (failing or [self])[0]:
                failing.append(self)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return run(self, batch, pool)

        monkeypatch.setattr(SpanModel, "run", fails)
        while len(failing) < module.SHORTAGES:
            assert await ring.ask(ring.session(), ids, 20) == expected
        short, other = sorted(ring.donors, key=lambda donor: donor.model is not failing[0])
        assert short.pool.capacity < other.pool.capacity
        assert short.engine.prefill_rows < 512
        assert len(short.sessions) == 0
        monkeypatch.setattr(SpanModel, "run", run)
        await other.stop()
        assert await ring.ask(ring.session(), ids, 20) == expected


async def test_memory_that_grows_elsewhere_costs_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near its cap a donor gives up sessions, the one idle longest first, rather than pass it."""
    used = 100 << 20
    monkeypatch.setattr(module, "memory_used", lambda: used)
    folder = make_checkpoint(tmp_path)
    async with fake_ring(folder, []) as ring:
        options = DonorOptions(cache_tokens=4096, places=16, memory_cap=300 << 20, log_bytes=16 << 20)
        donor = await ring.add(Span(0, 8), options)
        first, second = ring.session(), ring.session()
        ids = [5, 6, 7]
        await ring.ask(first, ids, 3)
        await ring.ask(second, ids, 3)
        assert len(donor.sessions) == 2
        used = 295 << 20
        for _ in range(100):
            if not len(donor.sessions):
                break
            await asyncio.sleep(0.05)
        assert len(donor.sessions) == 0
        used = 100 << 20
        await asyncio.sleep(1.1)  # it looks once a second
        assert await ring.ask(ring.session(), ids, 3) == greedy(reference(folder), ids, 3)
