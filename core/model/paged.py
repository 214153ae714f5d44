"""Attention over a cache in pages, of which each session holds a list that grows: how a GPU keeps it.

There a slot of a session's whole length would cost that much memory from the start, and nothing is
gained by keys lying together: the kernels of ``core.model.cuda`` follow the list as they read. Where these
are not to be had, plain torch gathers the pages; that way also says on a CPU what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.errors import FrameError
from core.model.attention import Alibi
from core.model.cache import PAGE

if TYPE_CHECKING:
    from core.model.batch import Rows
    from core.model.cuda.kernels import Kernels

FEW = 16
"""Members with up to so many rows are attended row by row; longer ones, prompts, as a chunk."""
ADDED = 8
"""Dimensions that carry the bias of a chunk; six of them, and flash attention wants multiples of eight."""
STEP = 64
"""Distances are split at this: both parts are exact in bfloat16."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one session, of which the last is its last key."""

    rows: slice
    pages: Tensor
    """[n] int64, on the device."""
    end: int


@dataclass(frozen=True)
class PagedPlan:
    """``Attention`` over pages: ``cache`` is [pages, 2, heads, PAGE, dim]. ``table`` [rows, 1 + n] int32 says
    of each row its position and its session's pages; the first ``few`` rows are attended one by one."""

    table: Tensor
    few: int
    chunks: tuple[Chunk, ...]
    alibi: Alibi
    kit: Kernels | None

    def attend(self, qkv: Tensor, cache: Tensor) -> Tensor:
        if self.kit is None:
            _write(qkv, cache, self.table)
        else:
            self.kit.write(qkv, cache, self.table)
        parts = [self._one_by_one(qkv[: self.few], cache)] if self.few else []
        parts += [_attend_chunk(qkv[chunk.rows, :, 0], cache, chunk, self.alibi) for chunk in self.chunks]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _one_by_one(self, qkv: Tensor, cache: Tensor) -> Tensor:
        table = self.table[: self.few]
        if self.kit is not None:
            return self.kit.attend(qkv, cache, table, self.alibi.slopes)
        return torch.cat([_attend_row(qkv[i, :, 0], cache, row, self.alibi) for i, row in enumerate(table)])


def table_of(members: Sequence[Rows], length: int) -> NDArray[np.int32]:
    """The table of all rows of ``members``, for sessions of up to ``length`` positions; -1 for no page."""
    width = 1 + -(-length // PAGE)
    table = np.full((sum(rows.count for rows in members), width), -1, np.int32)
    first = 0
    for rows in members:
        pages = tuple(rows.slot.pages)  # the loop may change the list meanwhile
        if rows.end > len(pages) * PAGE:
            raise FrameError(f"positions {rows.start} to {rows.end - 1} are not reserved")
        part = table[first : first + rows.count]
        part[:, 0] = np.arange(rows.start, rows.end)
        part[:, 1 : 1 + len(pages)] = pages
        first += rows.count
    return table


def plan_pages(members: Sequence[Rows], alibi: Alibi, device: torch.device, kit: Kernels | None) -> PagedPlan:
    """How ``members``, those with few rows first, write and attend."""
    table = torch.from_numpy(table_of(members, alibi.length))
    few, chunks, first = 0, [], 0
    for rows in members:
        if rows.count <= FEW:
            few += rows.count
        else:
            pages = table[first, 1 : 1 + -(-rows.end // PAGE)].long().to(device)
            chunks.append(Chunk(slice(first, first + rows.count), pages, rows.end))
        first += rows.count
    return PagedPlan(table.to(device), few, tuple(chunks), alibi, kit)


def _write(qkv: Tensor, cache: Tensor, table: Tensor) -> None:
    positions = table[:, 0].long()
    pages = table.gather(1, 1 + positions[:, None] // PAGE).squeeze(1).long()
    cache[pages, :, :, positions % PAGE] = qkv[:, :, 1:].transpose(1, 2)


def _gathered(cache: Tensor, pages: Tensor, end: int, dim: int) -> tuple[Tensor, Tensor]:
    """Keys and values [heads, end, dim]; dimensions beyond what the cache has are left to be filled, or 0."""
    found = cache.index_select(0, pages)
    count, _, heads, _, own = found.shape
    both = found.new_zeros(2, heads, count, PAGE, dim)
    both[..., :own] = found.permute(1, 2, 0, 3, 4)
    keys, values = both.view(2, heads, count * PAGE, dim)[:, :, :end].unbind(0)
    return keys, values


def _attend_row(query: Tensor, cache: Tensor, row: Tensor, alibi: Alibi) -> Tensor:
    end = int(row[0]) + 1
    keys, values = _gathered(cache, row[1 : 1 + -(-end // PAGE)].long(), end, query.shape[1])
    scores = (keys.float() @ query.float()[:, :, None]).squeeze(2) * query.shape[1] ** -0.5
    weights = torch.softmax(scores + alibi.one_row([end])[0, :, 0], -1)
    return (weights[:, None] @ values.float()).to(query.dtype).view(1, -1)


def _attend_chunk(queries: Tensor, cache: Tensor, chunk: Chunk, alibi: Alibi) -> Tensor:
    """``queries`` [rows, heads, dim] → [rows, heads · dim]."""
    if queries.is_cuda and queries.dtype is torch.bfloat16:
        return _flash(queries, cache, chunk, alibi)
    rows, _, dim = queries.shape
    keys, values = _gathered(cache, chunk.pages, chunk.end, dim)
    bias = alibi.chunk_reversed(rows, chunk.end)
    flipped = queries.flip(0).transpose(0, 1)[None]
    with sdpa_kernel(SDPBackend.MATH):
        out = F.scaled_dot_product_attention(flipped, keys[None], values[None], attn_mask=bias)
    return out[0].transpose(0, 1).flatten(1).flip(0)


def _flash(queries: Tensor, cache: Tensor, chunk: Chunk, alibi: Alibi) -> Tensor:
    """torch's flash attention, which knows no bias: it comes with added dimensions of queries and keys."""
    rows, heads, dim = queries.shape
    keys, values = _gathered(cache, chunk.pages, chunk.end, dim + ADDED)
    longer = queries.new_empty(1, heads, rows, dim + ADDED)
    longer[0, ..., :dim] = queries.transpose(0, 1)
    longer[0, ..., dim:] = slope_parts(alibi.slopes, dim)[:, None]
    keys[..., dim:] = distance_parts(chunk.end, keys.device)
    out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(  # noqa: SLF001 - alone aligns a chunk to its end
        longer, keys[None], values[None], 0.0, True, False, scale=dim**-0.5
    )[0]
    return out[0, ..., :dim].transpose(0, 1).flatten(1)


def slope_parts(slopes: Tensor, dim: int) -> Tensor:
    """[heads, ADDED] bfloat16: what each head's query adds, before its product is divided by √dim. A slope
    takes three bfloat16 numbers, which hold 24 bits together as float32 does."""
    left = -slopes.double() * dim**0.5
    parts = []
    for _ in range(3):
        parts.append(left.to(torch.bfloat16))
        left = left - parts[-1].double()
    nothing = torch.zeros_like(parts[0])
    return torch.stack([*parts, *parts, nothing, nothing], -1)


def distance_parts(end: int, device: torch.device) -> Tensor:
    """[end, ADDED] bfloat16: each key's distance from the last one, in two parts that bfloat16 holds."""
    distance = torch.arange(end - 1, -1, -1, device=device)
    near = distance % STEP
    far = distance - near
    nothing = torch.zeros_like(far)
    return torch.stack([far, far, far, near, near, near, nothing, nothing], -1).to(torch.bfloat16)
