"""The engine of a donor: one thread that runs whatever steps wait, of all sessions, as one ragged batch.

The event loop owns the sessions; the thread owns the tensors. The loop picks a batch while the thread
is idle, hands it over, and gets the results back; neither ever waits for a lock of the other.
Decode steps go first, since readers wait for them; prefill fills up what a decode step's time allows.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import torch

from core.errors import IdlebloomError
from core.model.cache import CachePool, Slot
from core.model.sampling import History, draw
from core.model.span import Rows, SpanModel
from core.ring.frames import Lane
from core.ring.part import Step
from core.serving.gathering import Gathering
from core.serving.narrow import narrowed, scales, widened
from core.swarm.frames import Dtype
from core.terms import Sampling, Span, Token

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

_TORCH = {Dtype.FLOAT32: torch.float32, Dtype.BFLOAT16: torch.bfloat16}


class BadInput(IdlebloomError):
    """Activations that no model makes."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the tail needs to draw after a step: one token, or where the step holds proposals, as many
    as agree with them and one more."""

    sampling: Sampling
    history: History
    proposals: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One session's step: ``key`` comes back with the result, ``input`` is how its payload is coded,
    ``output`` how the result must be (unless a token is drawn, or nothing is wanted)."""

    key: object
    step: Step
    slot: Slot
    span: Span
    input: Dtype
    output: Dtype | None
    drawing: Drawing | None


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a job: bytes for the next stage, or tokens, or what went wrong; ``bad_input`` says that
    it was what the stage before sent."""

    job: Job
    payload: bytes = b""
    tokens: tuple[Token, ...] = ()
    error: str = ""
    no_memory: bool = False
    """The device had no memory left for this step; nothing is wrong with its session."""
    bad_input: bool = False


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


class Engine:
    """``waiting`` yields the jobs that could run now, oldest first (it begins none); ``begin`` begins
    one, cut to a number of rows; ``finished`` takes the results of a batch; ``parts`` into how
    many batches the sessions shall fall, or 0; ``lost`` is called when the device has failed for good. All
    five are called in the loop. ``rest`` seconds are slept
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
        lost: Callable[[], None] = lambda: None,
        rest: float = 0.0,
    ) -> None:
        self.model, self.pool, self.rest = model, pool, rest
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
        self._last_decode = 0.0
        self.prefill_rows = PREFILL_ROWS
        """Most prompt rows in one batch; a device that ran out of memory takes fewer."""
        self._idle: list[asyncio.Future[None]] = []
        self._pauses = 0
        self._parts, self._on_lost = parts, lost
        self._gathering = Gathering()
        self._look: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def kick(self) -> None:
        """Something may wait: begin a batch unless one is under way, or someone waits for none to be."""
        while not self._busy and not self._pauses:
            jobs = self._choose()
            if not jobs:
                return
            self._busy = True
            if not self._is_short(jobs):
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
            while self._busy:
                waiter = self._loop.create_future()
                self._idle.append(waiter)
                await waiter
            self._busy = True
            try:
                yield
            finally:
                self._is_idle()
        finally:
            self._pauses -= 1
            self.kick()

    def _is_idle(self) -> None:
        """No batch runs any more."""
        self._busy = False
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
        if self.rest or self.rest_part or not 0 < self.speed.decode_step < INLINE_SECONDS:
            return False
        return all(job.step.lane is Lane.DECODE for job in jobs)

    def _results(self, results: list[Done]) -> None:
        self._is_idle()
        self._finished(results)
        self.kick()

    # In the thread, short steps excepted

    def _work(self) -> None:
        while (jobs := self._batches.get()) is not None:
            started = time.perf_counter()
            results = self._timed(jobs)
            if pause := self._pause(time.perf_counter() - started):
                time.sleep(pause)
            try:
                self._loop.call_soon_threadsafe(self._results, results)
            except RuntimeError:  # the loop has ended, and with it everyone who could want these
                return

    def _pause(self, worked: float) -> float:
        """Seconds to rest after so many of work."""
        part = min(self.rest_part, 0.95)
        return self.rest + min(worked * part / (1 - part), LONGEST_REST)

    def with_rest(self, worked: float) -> float:
        """Seconds until the next batch can begin after so many of work: what readers wait for."""
        return worked + self._pause(worked) if worked else 0.0

    @torch.inference_mode()
    def _timed(self, jobs: Sequence[Job]) -> list[Done]:
        started = time.perf_counter()
        results = self._run(jobs)
        self._measure(jobs, time.perf_counter() - started)
        return results

    def _run(self, jobs: Sequence[Job]) -> list[Done]:
        try:
            rows = [_rows(job, self.model.config.hidden) for job in jobs]
            outputs = self.model.run(rows, self.pool)
            payloads = _payloads(jobs, outputs)
        except (RuntimeError, MemoryError, IdlebloomError) as error:
            if is_out_of_memory(error):
                free_unused()
            elif self._is_lost():
                return [Done(job, error=LOST) for job in jobs]
            if len(jobs) > 1:  # one session's fault must not be the others' loss
                return [done for job in jobs for done in self._run([job])]
            if isinstance(error, BadInput):
                return [Done(job, error=error.message, bad_input=True) for job in jobs]
            if is_out_of_memory(error):
                log.warning("a step found no memory: %s", str(error).splitlines()[0][:200])
                return [Done(job, error=NO_MEMORY, no_memory=True) for job in jobs]
            log.exception("a step failed")
            return [Done(job, error=f"the step failed: {str(error).splitlines()[0][:200]}") for job in jobs]
        return [_done(*one) for one in zip(jobs, outputs, payloads, strict=True)]

    def _is_lost(self) -> bool:
        """Whether the device answers no more: after an error in a kernel, all that its process asks of it
        fails, and only a new process helps."""
        if self.model.device.type == "cpu":
            return False
        try:
            torch.cuda.synchronize(self.model.device)
        except RuntimeError:
            log.exception("the device failed")
            with suppress(RuntimeError):  # the loop may have ended
                self._loop.call_soon_threadsafe(self._on_lost)
            return True
        return False

    def _measure(self, jobs: Sequence[Job], seconds: float) -> None:
        decode = sum(job.step.count for job in jobs if job.step.lane is Lane.DECODE)
        prefill = sum(job.step.count for job in jobs) - decode
        self.tokens += decode
        self.rows += decode + prefill
        if not prefill:
            self.speed.decode(seconds, decode)
        elif prefill >= LEARN_ROWS:
            self.speed.prefill(max(seconds - self.speed.decode_step, 1e-6), prefill)


LOST = "this donor's device failed"
NO_MEMORY = "this donor has no memory left for the step"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, the CPU's allocator included, had nothing left to give."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "out of memory" in text)


def free_unused() -> None:
    """Hand back what allocators keep for later."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def _rows(job: Job, hidden: int) -> Rows:
    step = job.step
    buffer = bytearray(step.payload)  # torch wants memory that it may write to
    if job.input is Dtype.IDS:
        values = torch.frombuffer(buffer, dtype=torch.int32).long()
    else:
        values = _activations(buffer, job.input, hidden)
        if not torch.isfinite(values).all():
            raise BadInput("what the stage before sent holds numbers that are none")
    values = values[step.offset : step.offset + step.count]
    logits = 1 + len(job.drawing.proposals) if job.drawing else 0
    return Rows(job.slot, job.span, step.start, values, logits)


def _activations(buffer: bytearray, dtype: Dtype, hidden: int) -> torch.Tensor:
    if dtype is Dtype.INT8:
        return widened(torch.frombuffer(buffer, dtype=torch.uint8), hidden)
    return torch.frombuffer(buffer, dtype=_TORCH[dtype]).view(-1, hidden)


def _coded(output: torch.Tensor, dtype: Dtype) -> torch.Tensor:
    if dtype is Dtype.INT8:
        return narrowed(output).flatten()
    return output.to(_TORCH[dtype]).contiguous().view(torch.uint8).flatten()


def _is_finite(coded: torch.Tensor, dtype: Dtype, hidden: int) -> bool:
    values = scales(coded, hidden) if dtype is Dtype.INT8 else coded.view(_TORCH[dtype])
    return bool(torch.isfinite(values).all())


def _payloads(jobs: Sequence[Job], outputs: Sequence[torch.Tensor]) -> list[bytes | None]:
    """What of ``outputs`` goes to other stages, as bytes; None where it holds numbers that are none. From a
    GPU all of it comes in one copy, the only thing in a step that waits for the device, logits aside: tokens
    are drawn where they are."""
    coded = {
        at: _coded(output, job.output)
        for at, (job, output) in enumerate(zip(jobs, outputs, strict=True))
        if job.output is not None and job.drawing is None
    }
    payloads: list[bytes | None] = [b""] * len(jobs)
    if not coded:
        if outputs and outputs[0].is_cuda:
            torch.cuda.current_stream(outputs[0].device).synchronize()
        return payloads
    parts = list(coded.values())
    joined = (parts[0] if len(parts) == 1 else torch.cat(parts)).cpu()
    for at, part in zip(coded, torch.split(joined, [len(one) for one in parts]), strict=True):
        kind = jobs[at].output
        assert kind is not None
        finite = _is_finite(part, kind, outputs[at].shape[-1])
        payloads[at] = part.numpy().tobytes() if finite else None
    return payloads


def _done(job: Job, output: torch.Tensor, payload: bytes | None) -> Done:
    try:
        if job.drawing is not None:
            return Done(job, tokens=tuple(_drawn(job.drawing, output, job.step.end)))
    except IdlebloomError as error:
        return Done(job, error=str(error))
    if payload is None:
        return Done(job, error="what this donor computed holds numbers that are none")
    return Done(job, payload=payload)


def _drawn(drawing: Drawing, logits: torch.Tensor, end: int) -> Iterator[Token]:
    """Tokens from the rows of ``logits``, whose last draws position ``end``, up to the first that
    contradicts a proposal: what comes behind that was computed for another text."""
    history = drawing.history
    first = end - len(drawing.proposals)
    for row, proposal in enumerate((*drawing.proposals, None)):
        token = draw(logits[row], drawing.sampling, history, first + row)
        log.debug("drew the token at position %d", token.position)
        yield token
        if token.token_id != proposal:
            return
        if row == 0:
            history = history.copy()
        history.extend([token.token_id])
