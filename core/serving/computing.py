"""A batch of jobs through a model: computed, and its outputs brought to the host.

One session's fault is not the others' loss; a device that has failed is all of theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from core.errors import IdlebloomError
from core.model.cache import CachePool
from core.model.span import SpanModel
from core.serving.device import first_line, free_unused, is_lost, is_out_of_memory
from core.serving.jobs import BadInput, Done, Job, coded, drawn, payload, rows_of
from core.serving.landing import CudaFlights, Flights, Here, Landing

log = logging.getLogger(__name__)

LOST = "this donor's device failed"
NO_MEMORY = "this donor has no memory left for the step"


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that have been computed: their results as far as they are known, and the bytes of those that
    send some, of these ``sizes``; no ``landing`` where the results are all there is."""

    jobs: Sequence[Job]
    results: list[Done]
    sizes: tuple[int, ...] = ()
    landing: Landing | None = None


class Computing:
    """``lost`` is called, in whatever thread it is, with why when the device has failed for good. With
    ``flights`` the two halves of ``run`` may be done by two threads, each its own."""

    def __init__(
        self, model: SpanModel, pool: CachePool, flights: Flights | None, lost: Callable[[str], None]
    ) -> None:
        if flights is None and model.device.type == "cuda":
            flights = CudaFlights(model.device)
        self.model, self.pool = model, pool
        self._flights, self._on_lost = flights, lost

    @property
    def overlaps(self) -> bool:
        """Whether outputs come while the device computes the next batch."""
        return self._flights is not None

    def run(self, jobs: Sequence[Job]) -> list[Done]:
        return self.land(self.compute(jobs))

    @torch.inference_mode()
    def compute(self, jobs: Sequence[Job]) -> Batch:
        """When this returns the device has nothing more to do for ``jobs``, and tokens are drawn: where
        the logits are. What goes to other stages is on its way to the host."""
        try:
            rows = [rows_of(job, self._hidden) for job in jobs]
            outputs = self.model.run(rows, self.pool)
            parts = [
                coded(out, job.sends) for job, out in zip(jobs, outputs, strict=True) if job.sends is not None
            ]
            landing = self._flights.send(parts) if self._flights is not None else Here(parts)
            drawings = [_drawing(job, out) for job, out in zip(jobs, outputs, strict=True)]
            landing.computed()
            return Batch(jobs, drawings, tuple(map(len, parts)), landing)
        except (RuntimeError, MemoryError, IdlebloomError) as error:
            return Batch(jobs, self._failed(jobs, error))

    def _failed(self, jobs: Sequence[Job], error: Exception) -> list[Done]:
        """What becomes of the jobs of a batch that ended in ``error``."""
        if is_out_of_memory(error):
            free_unused()
        elif not isinstance(error, IdlebloomError) and is_lost(self.model.device, error):
            return self._lose(jobs, error)
        if len(jobs) > 1:  # one session's fault must not be the others' loss
            return [done for job in jobs for done in self.run([job])]
        if isinstance(error, BadInput):
            return [Done(job, error=error.message, bad_input=True) for job in jobs]
        if is_out_of_memory(error):
            log.warning("a step found no memory: %s", first_line(error))
            return [Done(job, error=NO_MEMORY, no_memory=True) for job in jobs]
        log.error("a step failed", exc_info=error)
        return [Done(job, error=f"the step failed: {first_line(error)}") for job in jobs]

    def _lose(self, jobs: Sequence[Job], error: Exception) -> list[Done]:
        """The device is gone for this process."""
        log.error("the device failed: %s", first_line(error))
        self._on_lost(first_line(error))
        return [Done(job, error=LOST, lost=True) for job in jobs]

    @torch.inference_mode()
    def land(self, batch: Batch) -> list[Done]:
        """Waits for what a batch sends on."""
        if batch.landing is None:
            return batch.results
        try:
            bytes_ = iter(torch.split(batch.landing.arrived(), list(batch.sizes)))
            return [
                done if done.error or done.job.sends is None else _sent(done.job, next(bytes_), self._hidden)
                for done in batch.results
            ]
        except RuntimeError as error:
            return self._lose(batch.jobs, error)

    @property
    def _hidden(self) -> int:
        return self.model.config.hidden


def _drawing(job: Job, output: torch.Tensor) -> Done:
    """With its tokens, where it draws some."""
    if job.drawing is None:
        return Done(job)
    try:
        return Done(job, tokens=tuple(drawn(job.drawing, output, job.step.end)))
    except IdlebloomError as error:
        return Done(job, error=str(error))


def _sent(job: Job, part: torch.Tensor, hidden: int) -> Done:
    assert job.sends is not None
    found = payload(part, job.sends, hidden)
    if found is None:
        return Done(job, error="what this donor computed holds numbers that are none")
    return Done(job, payload=found)
