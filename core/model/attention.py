"""Attention over the cache with ALiBi (Press et al. 2022, https://arxiv.org/abs/2108.12409).

The bias of a key is ``-slope · distance`` in float32, distance counted back from the last key.
transformers counts from the first key and rounds to the model's dtype, which in bfloat16 ruins long
contexts. Only differences of biases within a row matter, so both say the same in float32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


def alibi_slopes(heads: int) -> list[float]:
    """One slope a head: powers of 2^(-8/n) for n heads, n a power of two; for other counts, those of
    the power of two below, then every other one of the power of two above."""
    below = 1 << (heads.bit_length() - 1)
    base = 2.0 ** (-8.0 / below)
    slopes = [base**power for power in range(1, below + 1)]
    finer = 2.0 ** (-4.0 / below)
    return slopes + [finer**power for power in range(1, 2 * (heads - below), 2)]


class Alibi:
    """Every bias there is for sessions of up to ``length`` keys, computed once.

    ``table`` [heads, 2 · length] holds ``-slope · distance`` for distances length - 1 down to 0, then
    -inf for keys that are still to come; any bias is a window of it.
    """

    def __init__(self, heads: int, length: int, device: torch.device) -> None:
        self.length = length
        self.slopes = slopes = torch.tensor(alibi_slopes(heads), dtype=torch.float32, device=device)
        back = torch.arange(1 - length, 1, dtype=torch.float32, device=device)
        self.table = torch.full((heads, 2 * length), -math.inf, device=device)
        self.table[:, :length] = slopes[:, None] * back

    def one_row(self, lengths: Sequence[int]) -> Tensor:
        """For one query a session, at the last of its ``lengths``: [sessions, heads, 1, longest]."""
        longest = max(lengths)
        windows = [self.table[:, self.length - n : self.length - n + longest] for n in lengths]
        return (windows[0][None] if len(windows) == 1 else torch.stack(windows)).unsqueeze(2)

    def chunk_reversed(self, queries: int, end: int) -> Tensor:
        """For the last ``queries`` of ``end`` positions, last query first: [1, heads, queries, end].

        Row i is the table shifted by i, so the whole is a view with overlapping rows: it takes no
        memory, where 112 heads × 512 queries × 2,048 keys would take 470 MB.
        """
        heads, width = self.table.shape
        first = self.length - end
        return self.table.as_strided((1, heads, queries, end), (0, width, 1, 1), first)


class Attention(Protocol):
    """How the rows of one batch attend; the same for all blocks that they pass."""

    def attend(self, qkv: Tensor, cache: Tensor) -> Tensor:
        """Puts the new keys and values of ``qkv`` [rows, heads, 3, dim] into a block's ``cache``; → every
        row's attention over its own session's keys, causal within a chunk [rows, heads · dim]."""
        ...


@dataclass(frozen=True)
class Group:
    """Rows of a batch that are attended in one product: one row each of sessions in adjacent slots,
    or a chunk of one session."""

    rows: slice
    """Which rows of the batch's tokens."""
    slots: slice
    keys: int
    """Keys of the longest session; shorter ones are masked by ``bias``."""
    bias: Tensor
    chunk: bool


@dataclass(frozen=True)
class Write:
    """Where the new keys and values of some rows go: a chunk of one slot, or one position of several."""

    rows: slice
    slots: int | Tensor
    positions: slice | Tensor


@dataclass(frozen=True)
class Plan:
    """``Attention`` where each session's keys lie together: ``cache`` is [2, slots, heads, length, dim]."""

    writes: tuple[Write, ...]
    groups: tuple[Group, ...]

    def attend(self, qkv: Tensor, cache: Tensor) -> Tensor:
        write(qkv, cache, self.writes)
        return attend(qkv, cache, self.groups)


def write(qkv: Tensor, cache: Tensor, writes: Sequence[Write]) -> None:
    """Put new keys and values in ``cache`` [2, slots, heads, length, dim]; ``qkv`` [rows, heads, 3, dim]."""
    for part in writes:
        new = qkv[part.rows, :, 1:]
        if isinstance(part.slots, int):
            cache[:, part.slots, :, part.positions] = new.permute(2, 1, 0, 3)
        else:
            cache[:, part.slots, :, part.positions] = new.transpose(1, 2)


def attend(qkv: Tensor, cache: Tensor, groups: Sequence[Group]) -> Tensor:
    """Every row's attention over its own session's keys, causal within a chunk.

    ``qkv`` [rows, heads, 3, dim], of which only the queries are read; the keys are in ``cache``
    [2, slots, heads, length, dim]. Lengths and slopes come as the groups' biases. → [rows, heads · dim].

    torch's fused CPU kernel with a float32 bias keeps scores and softmax in float32 and beat plain
    products in every case measured: 16 heads of 64, one row, bfloat16, 128 and 1,024 keys, 0.036 and
    0.20 ms against 0.18 and 1.7; float32 0.06 and 0.61 against 0.06 and 0.70.
    """
    outputs = [_attend_group(qkv, cache, group) for group in groups]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _attend_group(qkv: Tensor, cache: Tensor, group: Group) -> Tensor:
    queries = qkv[group.rows, :, 0]
    keys, values = cache[:, group.slots, :, : group.keys].unbind(0)
    if group.chunk:
        flipped = queries.flip(0).transpose(0, 1)[None]
        out = F.scaled_dot_product_attention(flipped, keys, values, attn_mask=group.bias)
        return out[0].transpose(0, 1).flatten(1).flip(0)
    return _one_row(queries.unsqueeze(2), keys, values, group.bias).flatten(1)


def _one_row(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """``queries`` [sessions, heads, 1, dim]. On some CPUs torch's bfloat16 kernel is slower for one query
    than for two (EPYC 9004, 16 heads of 64, 160 and 1,024 keys: 0.26 and 1.7 ms against 0.11 and 0.7)."""
    if queries.dtype == torch.bfloat16 and two_are_faster():
        twice = queries.expand(-1, -1, 2, -1).contiguous()
        return F.scaled_dot_product_attention(twice, keys, values, attn_mask=bias)[:, :, :1]
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)


@cache
def two_are_faster() -> bool:
    """Whether two bfloat16 queries of a head take less time here than one; tried once, in some ms."""
    times = []
    keys = torch.zeros(1, 16, 256, 64, dtype=torch.bfloat16)
    bias = torch.zeros(1, 16, 1, 256)
    for count in (1, 2):
        queries = torch.zeros(1, 16, count, 64, dtype=torch.bfloat16)
        tries = [_seconds(queries, keys, bias) for _ in range(7)]
        times.append(min(tries))
    return times[1] < 0.9 * times[0]


def _seconds(queries: Tensor, keys: Tensor, bias: Tensor) -> float:
    started = time.perf_counter()
    F.scaled_dot_product_attention(queries, keys, keys, attn_mask=bias)
    return time.perf_counter() - started
