"""A donor measures its own layers before it announces them: a few steps on made-up input."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from core.model.cache import CachePool
from core.model.span import Rows, SpanModel

DECODE_STEPS, PROMPT_STEPS = 5, 2
PROMPT_ROWS = 32
ENOUGH_SECONDS = 0.3
"""Where steps take so long, fewer tell as much: nobody can read meanwhile. While it serves, the engine
measures on."""


def measure(model: SpanModel, pool: CachePool) -> tuple[float, float]:
    """Seconds of one decode step of one session, and of one more row of a prompt, through the whole span.
    Medians after a warm-up. The pool is left as it was."""
    model.prepare(pool)
    slot = pool.open()
    try:
        pool.reserve(slot, 2 * PROMPT_ROWS)
        rows = Rows(slot, model.span, 0, _made_up(model, PROMPT_ROWS))
        row = Rows(slot, model.span, PROMPT_ROWS, _made_up(model, 1), _logits(model))
        first = Rows(slot, model.span, 0, _made_up(model, 1), _logits(model))
        _timed(model, pool, first)  # weights that are only mapped yet come from the disk
        if model.device.type != "cpu":  # a GPU's kernels are chosen at a shape's first use
            _timed(model, pool, rows)
        prompt = _median(PROMPT_STEPS, lambda: _timed(model, pool, rows))
        step = _median(DECODE_STEPS, lambda: _timed(model, pool, row))
    finally:
        pool.release(slot)
    return step, max(prompt - step, 1e-6) / PROMPT_ROWS


def _median(most: int, take: Callable[[], float]) -> float:
    """Of what is taken: ``most`` times, or until that took long enough."""
    taken: list[float] = []
    while len(taken) < most and sum(taken) < ENOUGH_SECONDS:
        taken.append(take())
    return statistics.median(taken)


def _timed(model: SpanModel, pool: CachePool, rows: Rows) -> float:
    started = time.perf_counter()
    for out in model.run([rows], pool):
        out.cpu()  # until it is there the step is not over
    return time.perf_counter() - started


def _logits(model: SpanModel) -> int:
    return 1 if model.config.layers - 1 in model.span else 0


def _made_up(model: SpanModel, rows: int) -> torch.Tensor:
    if 0 in model.span:
        return torch.arange(rows) % model.config.vocab
    return torch.randn(rows, model.config.hidden, generator=torch.Generator().manual_seed(0))
