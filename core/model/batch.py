"""A ragged batch: several sessions' rows, each over its own layers, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from core.model.attention import Alibi, Group, Plan, Write
from core.model.cache import Slot
from core.terms import Span


@dataclass(frozen=True)
class Rows:
    """One session's part of a batch: consecutive positions from ``start``, through ``layers``.

    ``input``: token ids [n] int64 where ``layers`` begin at 0, else hidden [n, hidden] in any float
    dtype. ``logits``: of how many of the last rows logits are wanted, where ``layers`` hold the head.
    """

    slot: Slot
    layers: Span
    start: int
    input: Tensor
    logits: int = 0

    @property
    def count(self) -> int:
        return self.input.shape[0]

    @property
    def end(self) -> int:
        """The position after the last row."""
        return self.start + self.count


@dataclass(frozen=True)
class Segment:
    """Layers that the same sessions pass together; ``members`` index the batch."""

    layers: Span
    members: tuple[int, ...]


def segments(batch: Sequence[Rows], last: int) -> Iterator[Segment]:
    """The batch cut where sessions join or leave, and after layer 0 and before ``last``, the head.

    Members are ordered for attention: single rows by slot, so that neighbours lie side by side, then chunks,
    the shortest first.
    """
    order = sorted(range(len(batch)), key=lambda i: (batch[i].count, batch[i].slot.index))
    cuts = {edge for rows in batch for edge in (rows.layers.start, rows.layers.end)} | {1, last}
    for start, end in pairwise(sorted(cuts)):
        layers = Span(start, end)
        members = tuple(i for i in order if layers in batch[i].layers)
        if members:
            yield Segment(layers, members)


def plan(members: Sequence[Rows], alibi: Alibi, device: torch.device) -> Plan:
    """How ``members``, single rows first and by slot, write into the cache and attend."""
    singles = [rows for rows in members if rows.count == 1]
    writes: list[Write] = []
    groups: list[Group] = []
    if singles:
        writes.append(_write_singles(singles, device))
    first = 0
    for run in _runs(singles):
        slots = slice(run[0].slot.index, run[-1].slot.index + 1)
        lengths = [rows.end for rows in run]
        rows_of = slice(first, first + len(run))
        groups.append(Group(rows_of, slots, max(lengths), alibi.one_row(lengths), chunk=False))
        first += len(run)
    for rows in members[len(singles) :]:
        slot, rows_of = rows.slot.index, slice(first, first + rows.count)
        writes.append(Write(rows_of, slot, slice(rows.start, rows.end)))
        bias = alibi.chunk_reversed(rows.count, rows.end)
        groups.append(Group(rows_of, slice(slot, slot + 1), rows.end, bias, chunk=True))
        first += rows.count
    return Plan(tuple(writes), tuple(groups))


def _write_singles(singles: Sequence[Rows], device: torch.device) -> Write:
    if len(singles) == 1:
        rows = singles[0]
        return Write(slice(0, 1), rows.slot.index, slice(rows.start, rows.end))
    slots = torch.tensor([rows.slot.index for rows in singles], device=device)
    positions = torch.tensor([rows.start for rows in singles], device=device)
    return Write(slice(0, len(singles)), slots, positions)


CALL_KEYS = 256
"""What one more product costs, in keys attended: fewer wasted keys than this are worth a shared product."""


def _runs(singles: Sequence[Rows]) -> Iterator[list[Rows]]:
    """Sessions in adjacent slots, as long as padding them to the longest costs less than going alone."""
    run: list[Rows] = []
    for rows in singles:
        if run and not _joins(run, rows):
            yield run
            run = []
        run.append(rows)
    if run:
        yield run


def _joins(run: Sequence[Rows], rows: Rows) -> bool:
    if rows.slot.index != run[-1].slot.index + 1:
        return False
    longest = max(member.end for member in run)
    together = (len(run) + 1) * max(longest, rows.end)
    return together <= len(run) * longest + rows.end + CALL_KEYS
