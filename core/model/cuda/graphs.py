"""Decode steps as recorded CUDA graphs: one a block and number of rows, launched one after the other.

A block is some ten small kernels around four large products; launched one by one from Python they take
longer than a quantized block's work. A recording has fixed tensors: hidden states for up to ``MOST``
rows, and the table that says of each row its position and its session's pages. Rows are of any sessions, one
or several of each, so that a recording for 8 rows serves eight readers as well as one reader's eight
proposals; fewer rows are padded to the next size, and padding writes and reads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from core.model.attention import Alibi
from core.model.batch import Rows
from core.model.cache import PAGE, CachePool
from core.model.cuda.kernels import Kernels
from core.model.paged import FEW, PagedPlan, table_of

SIZES = (1, 2, 4, 8, 16, 32, 64)
MOST = SIZES[-1]

RunBlock = Callable[[Tensor, Tensor, PagedPlan], Tensor]


class Recordings:
    """The graphs of ``blocks`` (by layer) over the storages of ``pool``, for up to ``most`` rows: more are
    better off with an expanded matrix, for which a recording would set memory aside. They hold as long as
    both do."""

    def __init__(
        self,
        blocks: Mapping[int, RunBlock],
        pool: CachePool,
        alibi: Alibi,
        kit: Kernels,
        hidden: int,
        *,
        most: int = MOST,
    ) -> None:
        self.pool, self.most = pool, min(most, MOST)
        self._blocks, self._alibi, self._kit = blocks, alibi, kit
        device = pool.device
        width = 1 + -(-alibi.length // PAGE)
        self._hidden = torch.zeros(MOST, hidden, dtype=torch.float32, device=device)
        self._table = torch.full((MOST, width), -1, dtype=torch.int32, device=device)
        self._graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        self._memory = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def suits(self, members: Sequence[Rows]) -> bool:
        """Whether a segment of these is such a step."""
        return all(rows.count <= FEW for rows in members) and sum(rows.count for rows in members) <= self.most

    def record(self, sizes: Sequence[int] = SIZES) -> None:
        """Records every block for these numbers of rows, those that are not yet."""
        for size in [one for one in sizes if one <= self.most]:
            for layer in self._blocks:
                if (layer, size) not in self._graphs:
                    self._graphs[layer, size] = self._recorded(layer, size)

    def run(self, layers: range, members: Sequence[Rows], inputs: Sequence[Tensor]) -> Tensor:
        """``inputs`` [n, hidden] of each member through ``layers``; → all rows, float32."""
        table = table_of(members, self._alibi.length)
        count = len(table)
        size = next(size for size in SIZES if size >= count)
        self.record([size])
        # Of its own: a batch may have several such steps, and the last one may not be read yet.
        staged = torch.full((size, table.shape[1]), -1, dtype=torch.int32, pin_memory=True)
        staged[:count].copy_(torch.from_numpy(table))
        self._table[:size].copy_(staged, non_blocking=True)
        self._fill(inputs, count, size)
        for layer in layers:
            self._graphs[layer, size].replay()
        return self._hidden[:count].clone()

    def _fill(self, inputs: Sequence[Tensor], count: int, size: int) -> None:
        if all(part.device.type == "cpu" and part.dtype == inputs[0].dtype for part in inputs):
            joined = inputs[0] if len(inputs) == 1 else torch.cat(tuple(inputs))
            self._hidden[:count].copy_(joined.to(self._hidden.device, non_blocking=True))
        else:
            first = 0
            for part in inputs:
                self._hidden[first : first + len(part)].copy_(part)
                first += len(part)
        if count < size:
            self._hidden[count:size].zero_()

    def _recorded(self, layer: int, size: int) -> torch.cuda.CUDAGraph:
        hidden, cache = self._hidden[:size], self.pool.layers[layer - self.pool.first_block]
        how = PagedPlan(self._table[:size], size, (), self._alibi, self._kit)
        graph = torch.cuda.CUDAGraph()
        before = hidden.clone()
        kept = self._table.clone()
        self._table.fill_(-1)  # the trial run below and the recording touch no session
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._blocks[layer](hidden, cache, how)  # what libraries set up at first use cannot be recorded
            graph.capture_begin(pool=self._memory, capture_error_mode="thread_local")
            try:
                out = self._blocks[layer](hidden, cache, how)
                if out.data_ptr() != hidden.data_ptr():
                    hidden.copy_(out)
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(self._stream)
        hidden.copy_(before)
        self._table.copy_(kept)
        return graph
