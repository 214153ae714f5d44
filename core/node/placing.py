"""Which span this PC serves from system memory: what ``core.serving.fit`` finds room for, placed by
``core.serving.choose`` over the swarm's records."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from core.model.config import ModelConfig
from core.model.cost import Costs, Form, Numbers, costs
from core.serving.choose import WINDOW_SECONDS, Hand, choose, levels, turn
from core.serving.fit import Fit, Fitting, Room, Wish
from core.terms import PeerId, Record, Span

CONTEXT = 500 << 20
"""Bytes of a worker and its p2pd before the first layer: 290 and 61 MiB were measured, and the heap grows."""
PROMPT_ROWS = 512
"""Rows of a prompt that a step of the engine may run at once."""
LEFT = 0.25
"""The part of the free memory that is left to the owner's other programs."""


@dataclass(frozen=True)
class Place:
    """What a worker is told to serve."""

    span: Span
    cache_tokens: int


def room(config: ModelConfig, available: int) -> Room:
    """What a worker may use of ``available`` bytes of free system memory. The checkpoint is on this PC."""
    widest = max(8 * config.hidden * PROMPT_ROWS, config.vocab)
    return Room(
        cap=int(available * (1 - LEFT)), free=available, disk=0, context=CONTEXT, workspace=4 * widest * 4
    )


def table_of(config: ModelConfig, dtype: str) -> Costs:
    """On the CPU weights are held as they are computed in; a 16-bit head is held in float16."""
    numbers = Numbers(dtype)
    return costs(config, Form(numbers, numbers, Numbers.FLOAT16 if numbers is Numbers.BFLOAT16 else numbers))


def whole(fitting: Fitting) -> Place | None:
    """The whole model, where it fits: then nobody's records matter."""
    span = Span(0, len(fitting.table))
    return _place(fitting.fit(span)) if fitting.fits(span) else None


def place(
    fitting: Fitting, records: Collection[Record], me: PeerId, now: float, chance: random.Random
) -> Place:
    """The span to serve beside the others that ``records`` tell of. Raises ``TooLittle``."""
    fitting.check()
    seen = levels(records, len(fitting.table), me, now)
    choice = choose(
        seen,
        Hand(fitting.table, fitting.ends(), on_disk=fitting.on_disk),
        turn(me, int(now // WINDOW_SECONDS)),
        chance,
    )
    assert choice is not None, "a layer fits: it was checked"
    return _place(fitting.fit(choice.span))


def fitting(config: ModelConfig, dtype: str, available: int) -> Fitting:
    """What fits in ``available`` bytes of system memory, of a checkpoint in a local folder."""
    here = Span(0, config.layers)
    return Fitting(table_of(config, dtype), room(config, available), Wish(), on_disk=here)


def _place(fit: Fit) -> Place:
    return Place(fit.span, fit.cache_tokens)
