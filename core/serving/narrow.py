"""Activations in int8 by blocks: half of bfloat16's bytes, for prompts on slow links.

A block of ``BLOCK`` numbers shares one scale, its largest absolute value / 127, kept as bfloat16. BLOOM's few
very large numbers a position so spoil their own blocks alone. A row has ``Dtype.INT8.row_bytes(hidden)``
bytes: first the numbers, then the scales.
"""

from __future__ import annotations

import torch

from core.swarm.frames import BLOCK, SCALE_BYTES


def narrowed(values: torch.Tensor) -> torch.Tensor:
    """Rows of numbers [n, hidden] as bytes [n, row bytes]; a scale that is none tells of a number that is."""
    rows, hidden = values.shape
    blocks = -(-hidden // BLOCK)
    padded = torch.nn.functional.pad(values.float(), (0, blocks * BLOCK - hidden)).view(rows, blocks, BLOCK)
    steps = (padded.abs().amax(dim=2) / 127).to(torch.bfloat16)
    divisors = torch.where(steps > 0, steps, torch.ones_like(steps)).float()
    numbers = (padded / divisors[:, :, None]).round().clamp(-127, 127).to(torch.int8)
    numbers = numbers.view(rows, -1)[:, :hidden].contiguous()
    return torch.cat([numbers.view(torch.uint8), steps.view(torch.uint8)], dim=1)


def scales(data: torch.Tensor, hidden: int) -> torch.Tensor:
    """The scales [n, blocks] in what ``narrowed`` made."""
    rows = data.view(-1, hidden + SCALE_BYTES * -(-hidden // BLOCK))
    return rows[:, hidden:].contiguous().view(torch.bfloat16).float()


def widened(data: torch.Tensor, hidden: int) -> torch.Tensor:
    """What ``narrowed`` made, as float32 [n, hidden]."""
    steps = scales(data, hidden)
    numbers = data.view(steps.shape[0], -1)[:, :hidden].contiguous().view(torch.int8).float()
    return numbers * steps.repeat_interleave(BLOCK, dim=1)[:, :hidden]
