"""The engine of a donor: one thread that runs whatever steps wait, of all sessions, as one ragged batch.

The event loop owns the sessions; the thread owns the tensors. The loop picks a batch while the thread
is idle, hands it over, and gets the results back; neither ever waits for a lock of the other.
Decode steps go first, since readers wait for them; prefill fills up what a decode step's time allows.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from core.model.cache import CachePool
from core.model.span import SpanModel
from core.ring.frames import Lane
from core.ring.part import Step
from core.serving.computing import Batch, Computing
from core.serving.gathering import Gathering
from core.serving.jobs import Done, Job
from core.serving.landing import Flights

log = logging.getLogger(__name__)

PREFILL_ROWS = 512
"""Most prompt rows in one batch."""
PREFILL_LEAST = 16
"""Rows that prefill always gets, so that a busy donor still begins new answers;"""
PREFILL_ALONE = 64
"""and in a batch without decode steps, while others are awaited."""
LEARN_ROWS = 32
"""Batches of fewer prompt rows say little of what a row costs."""
DECODING_SECONDS = 1.0
"""For how long after a decode step more of them are expected."""
LONGEST_REST = 2.0
"""Seconds after one batch, however long that took: readers wait."""
INLINE_SECONDS = 0.002
"""A decode step shorter than this is run in the loop itself: handing it to the thread and back takes
0.15 ms, and nobody notices that the loop was away."""


@dataclass
class Speed:
    """Measured on the way, as moving averages in seconds; 0 until measured."""

    decode_step: float = 0.0
    """A batch of decode steps alone."""
    decode_row: float = 0.0
    """The same, a session."""
    prefill_row: float = 0.0

    def decode(self, seconds: float, rows: int) -> None:
        self.decode_step = _average(self.decode_step, seconds)
        self.decode_row = _average(self.decode_row, seconds / rows)

    def prefill(self, seconds: float, rows: int) -> None:
        self.prefill_row = _average(self.prefill_row, seconds / rows)


def _average(old: float, new: float) -> float:
    return new if not old else 0.9 * old + 0.1 * new


class _LoopEnded(Exception):
    """There is nobody left to work for."""


class Engine:
    """``waiting`` yields the jobs that could run now, oldest first (it begins none); ``begin`` begins
    one, cut to a number of rows; ``finished`` takes the results of a batch; ``parts`` into how
    many batches the sessions shall fall, or 0; ``lost`` is called with why when the device has failed for
    good. All five are called in the loop. ``rest`` seconds are slept
    after each batch, to keep a hot device cool; ``rest_part`` is the part of the time that it rests
    beside that."""

    def __init__(
        self,
        model: SpanModel,
        pool: CachePool,
        *,
        waiting: Callable[[], Iterable[tuple[object, Step]]],
        begin: Callable[[object, int | None], Job],
        finished: Callable[[list[Done]], None],
        parts: Callable[[], int] = lambda: 0,
        lost: Callable[[str], None] = lambda why: None,
        rest: float = 0.0,
        flights: Flights | None = None,
    ) -> None:
        self._computing = Computing(model, pool, flights, self._lost)
        self.rest = rest
        self.rest_part = 0.0
        self.speed = Speed()
        self.tokens = 0
        """Decode steps run."""
        self.rows = 0
        """Positions run, prompts included."""
        self._waiting, self._begin, self._finished = waiting, begin, finished
        self._loop = asyncio.get_running_loop()
        self._batches: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._busy = False
        """The device works, or somebody keeps it from working."""
        self._flying = 0
        """Batches whose results are not back."""
        self._last_decode = 0.0
        self.prefill_rows = PREFILL_ROWS
        """Most prompt rows in one batch; a device that ran out of memory takes fewer."""
        self._idle: list[asyncio.Future[None]] = []
        self._pauses = 0
        self._parts, self._on_lost = parts, lost
        self._gathering = Gathering()
        self._look: asyncio.TimerHandle | None = None
        self._launches: queue.SimpleQueue[tuple[float, Batch] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="engine", daemon=True).start()
        if self._computing.overlaps:
            threading.Thread(target=self._land_all, name="landing", daemon=True).start()

    @property
    def model(self) -> SpanModel:
        """May be replaced while ``paused``."""
        return self._computing.model

    @model.setter
    def model(self, model: SpanModel) -> None:
        self._computing.model = model

    def kick(self) -> None:
        """Something may wait: begin a batch unless one is under way, or someone waits for none to be."""
        while not self._busy and not self._pauses:
            jobs = self._choose()
            if not jobs:
                return
            self._busy = True
            if not self._is_short(jobs):
                self._flying += 1
                self._batches.put(jobs)
                return
            results = self._timed(jobs)
            self._busy = False
            self._finished(results)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Inside, no batch runs: the model and its cache may be changed. Steps wait meanwhile."""
        self._pauses += 1
        try:
            while self._busy or self._flying:
                waiter = self._loop.create_future()
                self._idle.append(waiter)
                await waiter
            self._busy = True
            try:
                yield
            finally:
                self._busy = False
                self._wake()
        finally:
            self._pauses -= 1
            self.kick()

    def _wake(self) -> None:
        """Those who wait for no batch to be under way look again."""
        if self._busy or self._flying:
            return
        waiting, self._idle = self._idle, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Ends the thread after the batch under way."""
        self._busy = True
        self._batches.put(None)

    # In the loop

    def _choose(self) -> list[Job]:
        decode: list[object] = []
        prefill: list[tuple[object, Step]] = []
        for key, step in self._waiting():
            if step.lane is Lane.DECODE:
                decode.append(key)
            else:
                prefill.append((key, step))
        now = time.monotonic()
        if decode and self._waits(decode, now):
            return []
        if decode:
            self._last_decode = now
            self._gathering.begin(decode, now)
        jobs = [self._begin(key, None) for key in decode]
        room = self._prefill_room(now, bool(decode))
        for key, step in prefill:
            if room <= 0:
                break
            jobs.append(self._begin(key, min(room, step.count)))
            room -= step.count
        return jobs

    def _waits(self, decode: Sequence[object], now: float) -> bool:
        """Whether a batch of decode steps waits for others, in which case it is looked at again."""
        step = self.speed.decode_step
        if step < INLINE_SECONDS:
            return False
        seconds = self._gathering.wait(frozenset(decode), now, step, self._parts())
        if seconds and self._look is None:
            self._look = self._loop.call_later(seconds, self._look_again)
        return seconds > 0

    def _look_again(self) -> None:
        self._look = None
        self.kick()

    def _prefill_room(self, now: float, with_decode: bool) -> int:
        """Rows of prompts that keep a batch under twice a decode step while answers are under way."""
        speed = self.speed
        if now - self._last_decode > DECODING_SECONDS or not speed.prefill_row:
            return self.prefill_rows
        least = PREFILL_LEAST if with_decode else PREFILL_ALONE
        return max(least, min(self.prefill_rows, int(speed.decode_step / speed.prefill_row)))

    def _is_short(self, jobs: Sequence[Job]) -> bool:
        if self._flying or self.rest or self.rest_part or not 0 < self.speed.decode_step < INLINE_SECONDS:
            return False
        return all(job.step.lane is Lane.DECODE for job in jobs)

    def _is_free(self) -> None:
        """The device has done a batch, whose results are on their way."""
        self._busy = False
        self._wake()
        self.kick()

    def _landed(self, results: list[Done]) -> None:
        self._flying -= 1
        self._wake()
        self._finished(results)
        self.kick()

    def _results(self, results: list[Done]) -> None:
        self._busy = False
        self._landed(results)

    # In the threads, short steps excepted

    def _work(self) -> None:
        overlaps = self._computing.overlaps
        with suppress(_LoopEnded):
            while (jobs := self._batches.get()) is not None:
                started = time.perf_counter()
                if overlaps:
                    self._launches.put((started, self._computing.compute(jobs)))
                else:
                    results = self._timed(jobs)
                if pause := self._pause(time.perf_counter() - started):
                    time.sleep(pause)
                if overlaps:
                    self._post(self._is_free)
                else:
                    self._post(self._results, results)
        self._launches.put(None)

    def _land_all(self) -> None:
        """Takes in what the device has computed, while it computes the next batch."""
        with suppress(_LoopEnded):
            while (launched := self._launches.get()) is not None:
                started, batch = launched
                results = self._computing.land(batch)
                self._measure(batch.jobs, time.perf_counter() - started)
                self._post(self._landed, results)

    def _post(self, call: Callable[..., None], *given: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *given)
        except RuntimeError:  # the loop has ended, and with it everyone who could want this
            raise _LoopEnded from None

    def _pause(self, worked: float) -> float:
        """Seconds to rest after so many of work."""
        part = min(self.rest_part, 0.95)
        return self.rest + min(worked * part / (1 - part), LONGEST_REST)

    def with_rest(self, worked: float) -> float:
        """Seconds until the next batch can begin after so many of work: what readers wait for."""
        return worked + self._pause(worked) if worked else 0.0

    def _timed(self, jobs: Sequence[Job]) -> list[Done]:
        started = time.perf_counter()
        results = self._run(jobs)
        self._measure(jobs, time.perf_counter() - started)
        return results

    def _run(self, jobs: Sequence[Job]) -> list[Done]:
        return self._computing.run(jobs)

    def _lost(self, why: str) -> None:
        with suppress(RuntimeError):  # the loop may have ended
            self._loop.call_soon_threadsafe(self._on_lost, why)

    def _measure(self, jobs: Sequence[Job], seconds: float) -> None:
        decode = sum(job.step.count for job in jobs if job.step.lane is Lane.DECODE)
        prefill = sum(job.step.count for job in jobs) - decode
        self.tokens += decode
        self.rows += decode + prefill
        if not prefill:
            self.speed.decode(seconds, decode)
        elif prefill >= LEARN_ROWS:
            self.speed.prefill(max(seconds - self.speed.decode_step, 1e-6), prefill)
