"""What a PC could hold of a model before anything is fetched: for whoever chooses one. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.model.config import ModelConfig
from core.model.cost import Form, Numbers, costs, disk_of
from core.serving.fit import Fitting, Room
from core.terms import Span

CONTEXT = 600 * 10**6
"""What a CUDA process takes before its first layer, roughly; measured when it really serves."""
WORKSPACE = 300 * 10**6
GPU = Form(blocks=Numbers.NF4, head=Numbers.INT8)
"""How a donor with a GPU holds its layers unless told otherwise."""
CPU = Form()


@dataclass(frozen=True)
class Outlook:
    """``blocks`` of the model's that this PC could hold, ``fetch`` the bytes to fetch for them, ``whole``:
    all layers fit. ``pcs``: how many such PCs hold the model together, 0 where none of it fits. ``size``:
    bytes of the whole checkpoint."""

    blocks: int
    fetch: int
    whole: bool
    pcs: int
    size: int


def outlook(config: ModelConfig, *, memory: int, disk: int, gpu: bool) -> Outlook:
    """``memory`` and ``disk`` are the bytes that layers may take here."""
    table = costs(config, GPU if gpu else CPU)
    room = Room(cap=memory, free=memory, disk=disk, context=CONTEXT if gpu else 0, workspace=WORKSPACE)
    size = disk_of(table, Span(0, len(table)))
    ends = Fitting(table, room).ends()

    def blocks(start: int) -> int:
        return max(0, min(ends[start], config.blocks + 1) - max(start, 1))

    start = max(range(len(ends)), key=lambda layer: (blocks(layer), ends[layer] - layer))
    if not blocks(start):
        return Outlook(0, 0, False, 0, size)
    span = Span(start, ends[start])
    whole = len(span) == len(table)
    return Outlook(blocks(start), disk_of(table, span), whole, math.ceil(len(table) / len(span)), size)
