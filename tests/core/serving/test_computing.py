"""What becomes of a batch whose device fails, and of its outputs while the device goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core.model.cache import CachePool
from core.model.span import SpanModel
from core.ring.frames import Lane
from core.ring.part import Step
from core.serving import worker
from core.serving.computing import LOST, Computing
from core.serving.device import is_lost
from core.serving.engine import Engine
from core.serving.jobs import Done, Job
from core.serving.orders import WorkerConfig
from core.swarm.frames import Dtype
from core.terms import Span
from tests.core.rings import make_checkpoint
from tests.core.serving.poisoned import MORE, WORDS

POISONED = torch.AcceleratorError(f"{WORDS}\n{MORE}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SpanModel:
    return SpanModel.load(make_checkpoint(tmp_path_factory.mktemp("bloom")), Span(0, 3), dtype=torch.float32)


@pytest.fixture
def pool(model: SpanModel) -> CachePool:
    return CachePool(model.config, model.span, model.dtype, model.device, 512, max_length=64, slots=8)


def job(model: SpanModel, pool: CachePool, key: object, count: int = 1) -> Job:
    """Token ids through the span, to be sent on."""
    slot = pool.open()
    pool.reserve(slot, count)
    ids = torch.arange(3, 3 + count, dtype=torch.int32).numpy().tobytes()
    step = Step(Lane.DECODE, hop=0, rollback=0, start=0, count=count, payload=ids)
    return Job(key, step, slot, model.span, Dtype.IDS, Dtype.FLOAT32, None)


class Flight:
    """Bytes that arrive when they are let."""

    def __init__(self, device: FakeDevice, number: int, parts: Sequence[torch.Tensor]) -> None:
        self.device, self.number, self.joined = device, number, torch.cat(tuple(parts))
        self.may_arrive = threading.Event()
        self.error: RuntimeError | None = None

    def computed(self) -> None:
        self.device.log.append(f"computed {self.number}")

    def arrived(self) -> torch.Tensor:
        assert self.may_arrive.wait(10)
        self.device.log.append(f"arrived {self.number}")
        if self.error is not None:
            raise self.error
        return self.joined


class FakeDevice:
    """The copying half of a GPU."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.flights: list[Flight] = []

    def send(self, parts: Sequence[torch.Tensor]) -> Flight:
        self.flights.append(Flight(self, len(self.flights), parts))
        return self.flights[-1]


class Sessions:
    """Steps that wait, and results as they come."""

    def __init__(self, device: FakeDevice, jobs: Sequence[Job]) -> None:
        self.device, self.jobs = device, {job.key: job for job in jobs}
        self.results: list[Done] = []
        self.waits: set[object] = set()
        self.lost: list[str] = []

    def waiting(self) -> Iterator[tuple[object, Step]]:
        return iter([(key, job.step) for key, job in self.jobs.items() if key in self.waits])

    def begin(self, key: object, _count: int | None) -> Job:
        self.waits.remove(key)
        self.device.log.append(f"began {key}")
        return self.jobs[key]

    def finished(self, results: list[Done]) -> None:
        self.device.log += [f"finished {done.job.key}" for done in results]
        self.results += results

    def engine(self, model: SpanModel, pool: CachePool) -> Engine:
        return Engine(
            model,
            pool,
            waiting=self.waiting,
            begin=self.begin,
            finished=self.finished,
            lost=self.lost.append,
            flights=self.device,
        )


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what happens in threads tells nobody
            await asyncio.sleep(0.005)


async def test_the_next_batch_runs_while_outputs_are_on_their_way(model: SpanModel, pool: CachePool) -> None:
    """The device is free when it has computed; results follow, and a change of the model waits for all."""
    device = FakeDevice()
    sessions = Sessions(device, [job(model, pool, key) for key in "ab"])
    wanted = [done.payload for done in Computing(model, pool, None, print).run(list(sessions.jobs.values()))]
    engine = sessions.engine(model, pool)
    sessions.waits = {"a"}
    engine.kick()
    await until(lambda: device.log[-1:] == ["computed 0"])
    sessions.waits = {"b"}
    engine.kick()
    await until(lambda: device.log[-1:] == ["computed 1"])
    assert device.log == ["began a", "computed 0", "began b", "computed 1"] and not sessions.results

    async def change() -> None:
        async with engine.paused():
            device.log.append("changed")

    changing = asyncio.create_task(change())
    for flight in device.flights:
        flight.may_arrive.set()
    await changing
    assert device.log[4:] == ["arrived 0", "finished a", "arrived 1", "finished b", "changed"] or (
        device.log[4:] == ["arrived 0", "arrived 1", "finished a", "finished b", "changed"]
    )
    assert [done.payload for done in sessions.results] == wanted and all(wanted)
    assert engine.tokens == 2
    engine.close()


async def test_a_device_that_fails_while_it_copies_is_lost(model: SpanModel, pool: CachePool) -> None:
    """All of the batch hear it, and the donor hears why, in one line."""
    device = FakeDevice()
    sessions = Sessions(device, [job(model, pool, key) for key in "ab"])
    engine = sessions.engine(model, pool)
    sessions.waits = {"a", "b"}
    engine.kick()
    await until(lambda: device.flights)
    device.flights[0].error = POISONED
    device.flights[0].may_arrive.set()
    await until(lambda: sessions.lost and sessions.results)
    assert [(done.error, done.lost, done.payload) for done in sessions.results] == [(LOST, True, b"")] * 2
    assert sessions.lost == [WORDS]
    engine.close()


def test_a_failed_step_tells_a_lost_device_from_a_full_one(
    model: SpanModel, pool: CachePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory is one session's matter and is tried again alone; a lost device is everyone's, at once."""
    jobs, lost = [job(model, pool, key) for key in "ab"], list[str]()
    computing, ran = Computing(model, pool, None, lost.append), list[int]()

    def failing(error: Exception) -> list[Done]:
        def run(rows: Sequence[object], _pool: CachePool) -> list[torch.Tensor]:
            ran.append(len(rows))
            raise error

        ran.clear()
        monkeypatch.setattr(model, "run", run)
        return computing.run(jobs)

    found = failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert [(done.no_memory, done.lost) for done in found] == [(True, False)] * 2
    assert ran == [2, 1, 1] and not lost
    found = failing(POISONED)
    assert [(done.no_memory, done.lost) for done in found] == [(False, True)] * 2
    assert ran == [2] and lost == [WORDS]
    found = failing(RuntimeError("shapes do not fit"))
    assert [done.error for done in found] == ["the step failed: shapes do not fit"] * 2
    assert len(lost) == 1


def test_a_gpu_is_asked_whether_it_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every error of a device is its end."""
    gpu, answers = torch.device("cuda", 0), True

    def synchronize(_device: torch.device) -> None:
        if not answers:
            raise POISONED

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert not is_lost(gpu, torch.AcceleratorError("CUDA error: invalid configuration argument"))
    answers = False
    assert is_lost(gpu, POISONED)


async def test_a_device_lost_while_layers_change_ends_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says holds the word *memory*, but it is not short of that: then a worker serves on."""
    said: list[object] = []

    class FakeDonor:
        def __init__(self, error: Exception) -> None:
            self.error, self.model = error, SimpleNamespace(span=Span(0, 3))

        async def resize(self, *_: object) -> None:
            raise self.error

    monkeypatch.setattr(worker, "_say", lambda **fields: said.append(fields["trouble"]))
    config = WorkerConfig("model", (0, 3), "key", str(tmp_path))
    full: Any = FakeDonor(torch.OutOfMemoryError("CUDA out of memory"))
    await worker._resize(full, config, Span(0, 4), 1.0)
    assert said == ["there is too little memory for these layers"]
    poisoned: Any = FakeDonor(POISONED)
    with pytest.raises(torch.AcceleratorError):
        await worker._resize(poisoned, config, Span(0, 4), 1.0)
