"""One session's step as the engine runs it, and its result: tensors from bytes, bytes from tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from core.errors import IdlebloomError
from core.model.cache import Slot
from core.model.sampling import History, draw
from core.model.span import Rows
from core.ring.part import Step
from core.serving.narrow import narrowed, scales, widened
from core.swarm.frames import Dtype
from core.terms import Sampling, Span, Token

log = logging.getLogger(__name__)

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

    @property
    def sends(self) -> Dtype | None:
        """How what it sends to another stage is coded; ``None`` where it sends nothing."""
        return self.output if self.drawing is None else None


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
    lost: bool = False
    """The device has failed: nothing is wrong with the session here either."""


def rows_of(job: Job, hidden: int) -> Rows:
    """Raises ``BadInput`` for activations that are no numbers."""
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


def coded(output: torch.Tensor, dtype: Dtype) -> torch.Tensor:
    """The bytes of an output where it is."""
    if dtype is Dtype.INT8:
        return narrowed(output).flatten()
    return output.to(_TORCH[dtype]).contiguous().view(torch.uint8).flatten()


def payload(part: torch.Tensor, dtype: Dtype, hidden: int) -> bytes | None:
    """Bytes that have come to the host as they are sent; ``None`` where they hold numbers that are none."""
    values = scales(part, hidden) if dtype is Dtype.INT8 else part.view(_TORCH[dtype])
    return part.numpy().tobytes() if torch.isfinite(values).all() else None


def drawn(drawing: Drawing, logits: torch.Tensor, end: int) -> Iterator[Token]:
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
