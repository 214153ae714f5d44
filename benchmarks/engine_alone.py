"""A donor's engine with all layers in one process, without sessions, frames or streams: the same
thread, batches and drawing, fed from its own event loop. What a ring takes longer is the ring's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from benchmarks.children import Answer, serve
from benchmarks.measure import Timing
from core.model.cache import CachePool
from core.model.sampling import History
from core.model.span import SpanModel
from core.ring.frames import Lane
from core.ring.part import Step
from core.serving.engine import Engine
from core.serving.jobs import Done, Drawing, Job
from core.swarm.frames import Dtype, pack_ids
from core.swarm.loop import new_event_loop
from core.terms import Sampling, Span

CHUNK = 128


class Alone:
    """Gives the engine a session's steps, the next as soon as one is done."""

    def __init__(self, model: SpanModel, pool: CachePool) -> None:
        self.model, self.pool = model, pool
        self.engine = Engine(
            model,
            pool,
            waiting=self._waiting,
            begin=self._begin,
            finished=self._finished,
        )

    async def answer(self, ids: Sequence[int], count: int) -> Timing:
        self.slot = self.pool.open()
        self.pool.reserve(self.slot, len(ids) + count)
        self.history, self.prompt, self.count = History(ids, len(ids)), len(ids), count
        self.times: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self.steps = [
            self._step(Lane.BULK, start, ids[start : start + CHUNK]) for start in range(0, len(ids), CHUNK)
        ]
        asked = time.perf_counter()
        self.engine.kick()
        await self.done
        self.pool.release(self.slot)
        return Timing(asked, tuple(self.times), tuple(self.history.ids[len(ids) :]))

    def _step(self, lane: Lane, start: int, ids: Sequence[int]) -> Step:
        return Step(lane, 0, 0, start, len(ids), pack_ids(tuple(ids)))

    def _waiting(self) -> Iterable[tuple[object, Step]]:
        return [(None, self.steps[0])] if self.steps else []

    def _begin(self, _key: object, _rows: int | None) -> Job:
        step = self.steps.pop(0)
        drawing = Drawing(Sampling(), self.history) if step.end >= self.prompt else None
        return Job(None, step, self.slot, Span(0, self.model.config.layers), Dtype.IDS, None, drawing)

    def _finished(self, results: Sequence[Done]) -> None:
        for done in results:
            if done.error:
                self.done.set_exception(RuntimeError(done.error))
                return
            for token in done.tokens:
                self.times.append(time.perf_counter())
                self.history.extend([token.token_id])
                if len(self.times) < self.count:
                    self.steps.append(self._step(Lane.DECODE, token.position, [token.token_id]))
                else:
                    self.done.set_result(None)


def load(folder: Path, dtype: str) -> Answer:
    kind = getattr(torch, dtype)
    model = SpanModel.load(folder, _whole(folder), dtype=kind)
    config = model.config
    pool = CachePool(config, model.span, kind, capacity_tokens=4096, slots=2)
    runner = asyncio.Runner(loop_factory=new_event_loop)

    async def make() -> Alone:
        return Alone(model, pool)

    alone = runner.run(make())
    return lambda ids, count: runner.run(alone.answer(ids, count))


def _whole(folder: Path) -> Span:
    from core.model.config import read_config

    return Span(0, read_config(folder).layers)


if __name__ == "__main__":
    serve(load)
