"""Products with matrices in 4 or 8 bits on CUDA: read as they are for few rows, expanded for many.

Few rows: a step's time is that of reading the matrix, so it is read in its few bits and multiplied on the
way. Weights times bfloat16 inputs, so no session changes another's results, nothing waits for the device, and
launches can be recorded: LLM.int8 allows none of these. Many rows: slices of the matrix are expanded to
bfloat16 for cuBLAS, so that the workspace stays small beside the matrix. Where one begins to win is
measured at the start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from core.model.cuda.kernels import CompileError, Kernels, attention_names, kernels_of, source_hash
from core.model.linear import Linear

log = logging.getLogger(__name__)


class Format(IntEnum):
    """As in kernels.cu."""

    NF4 = 0
    INT8 = 1
    BFLOAT16 = 2


FEW = 64
"""Up to so many rows may be multiplied as the matrix is read."""
SLICE_BYTES = 192 << 20
"""An expanded slice of a matrix takes at most so much."""


@dataclass(frozen=True)
class Matrix:
    """``numbers`` uint8 or int8, [n, k] numbers in all, and their scales: as in kernels.cu."""

    format: Format
    n: int
    k: int
    numbers: Tensor
    scale_codes: Tensor | None = None
    scale_values: Tensor | None = None
    scales: Tensor | None = None
    offset: Tensor | None = None
    levels: Tensor | None = None

    @classmethod
    def nf4(cls, packed: Tensor, state: Any) -> Matrix:
        """Of bitsandbytes' packed numbers and its state of them, doubly quantized in blocks of 64 and 256."""
        n, k = state.shape
        return cls(
            Format.NF4,
            n,
            k,
            packed,
            state.absmax,
            state.state2.code.float(),
            state.state2.absmax.float(),
            state.offset.float().reshape(1),
            state.code.float(),
        )

    @classmethod
    def int8(cls, numbers: Tensor, largest: Tensor) -> Matrix:
        """Of LLM.int8's numbers and the largest absolute value of each row."""
        n, k = numbers.shape
        return cls(Format.INT8, n, k, numbers, scales=largest.float() / 127)

    @classmethod
    def bfloat16(cls, weight: Tensor) -> Matrix:
        n, k = weight.shape
        return cls(Format.BFLOAT16, n, k, weight)

    @property
    def fits(self) -> bool:
        """Whether the kernels can multiply with it: pieces of 16 rows and of 128, 64 or 32 numbers."""
        return (
            self.n % 16 == 0
            and self.k % {Format.NF4: 128, Format.INT8: 64, Format.BFLOAT16: 32}[self.format] == 0
        )

    def parts(self) -> tuple[Tensor | None, ...]:
        return (self.numbers, self.scale_codes, self.scale_values, self.scales, self.offset, self.levels)


class Shape(NamedTuple):
    """How a block of eight warps goes through the matrix: ``rows`` of them take pieces of 16 of its rows side
    by side, ``deep`` such pieces each, and the others share these pieces' columns; ``blocks`` find room on a
    multiprocessor (where ``deep`` is 1, as many as kernels.cu says). ``pieces`` of 8 rows of x are
    multiplied at a time."""

    pieces: int
    rows: int
    deep: int
    blocks: int

    def name(self, format_: Format) -> str:
        if self.deep == 1:
            return f"product<{int(format_)}, {self.pieces}, {self.rows}>"
        return f"deep_product<{int(format_)}, {self.pieces}, {self.rows}, {self.deep}, {self.blocks}>"


SHAPES: Mapping[Format, Mapping[int, Shape]] = {
    Format.NF4: {
        1: Shape(1, 2, 1, 4),
        8: Shape(1, 2, 2, 3),
        16: Shape(2, 2, 2, 2),
        32: Shape(4, 2, 2, 2),
        64: Shape(8, 2, 2, 1),
    },
    Format.INT8: {8: Shape(1, 1, 1, 4), 16: Shape(2, 1, 2, 2), 32: Shape(4, 1, 2, 2)},
    Format.BFLOAT16: {8: Shape(1, 2, 1, 4), 16: Shape(2, 1, 1, 2), 32: Shape(4, 2, 1, 2)},
}
"""Up to how many rows of x which: the fastest measured on an H100 with BLOOM-176B's matrices. The last is for
more rows, too. A quantized format's all have as many ``rows``, so sums are added up in one order: what a
session is answered does not depend on how many others are answered beside it."""


def shape_of(format_: Format, rows: int) -> Shape:
    shapes = SHAPES[format_]
    return next((shape for most, shape in shapes.items() if rows <= most), shapes[max(shapes)])


def product_names(format_: Format) -> tuple[str, ...]:
    """The kernels of products with matrices of this format."""
    names = tuple(dict.fromkeys(shape.name(format_) for shape in SHAPES[format_].values()))
    return names if format_ is Format.BFLOAT16 else (*names, f"expand<{int(format_)}>")


def begin_compiling(device: torch.device, dtype: torch.dtype, dim: int, formats: Sequence[Format]) -> None:
    """In a thread: compiles all that blocks with such heads and matrices in these formats will ask for, in
    less than half of the time that it takes one by one, while layers are read."""
    kit = kernels_of(device)
    if kit is None:
        return
    names = list(attention_names(dtype, dim)) if kit.attends(dtype, dim) else []
    if kit.multiplies and dtype is torch.bfloat16:
        names += ["normalise", *(name for one in formats for name in product_names(one))]
    threading.Thread(target=_compile, args=(kit, names), name="compile", daemon=True).start()


def _compile(kit: Kernels, names: Sequence[str]) -> None:
    try:
        kit.compile(names)
    except (CompileError, RuntimeError) as error:  # who needs one is told again
        log.warning("%s", error)


def multiply(
    kit: Kernels,
    a: Matrix,
    x: Tensor,
    bias: Tensor | None = None,
    *,
    gelu: bool = False,
    wide: bool = False,
    shape: Shape | None = None,
) -> Tensor:
    """x [m, k] bfloat16 → x · aᵀ + bias [m, n], optionally through BLOOM's gelu; float32 where ``wide``."""
    m = x.shape[0]
    shape = shape or shape_of(a.format, m)
    out = torch.empty(m, a.n, dtype=torch.float32 if wide else torch.bfloat16, device=x.device)
    tiles = -(-a.n // (16 * shape.rows * shape.deep))
    grid = (min(tiles, kit.processors * shape.blocks), -(-m // (8 * shape.pieces)), 1)
    kit[shape.name(a.format)](grid, 256, *a.parts(), x, bias, out, a.n, a.k, m, int(gelu), int(wide))
    return out


def expand(kit: Kernels, a: Matrix, first: int, count: int, out: Tensor) -> Tensor:
    """Rows [first, first + count) of the matrix as bfloat16 in ``out`` [≥ count, k]."""
    kit[f"expand<{int(a.format)}>"]((kit.processors * 4, 1, 1), 512, *a.parts(), out, first, count, a.k)
    return out[:count]


class FewBitsLinear:
    """A quantized matrix as a ``Linear``: up to ``few`` rows are multiplied as it is read, more by
    ``many``, or else expanded. ``core.model.cuda.switch`` measures where ``few`` should be."""

    def __init__(self, kit: Kernels, matrix: Matrix, bias: Tensor | None, many: Linear | None = None) -> None:
        self.matrix, self.bias, self.many = matrix, bias, many
        self.few = FEW
        self._kit = kit

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[0] <= self.few:
            return self.fused(x)
        return self.of_many(x)

    def gelu(self, x: Tensor) -> Tensor:
        if x.shape[0] <= self.few:
            return multiply(self._kit, self.matrix, x.contiguous(), self.bias, gelu=True)
        return F.gelu(self.of_many(x), approximate="tanh")

    def wide(self, x: Tensor) -> Tensor:
        """The same in float32 and without bias: logits."""
        several = x.split(self.few)  # type: ignore[no-untyped-call]
        parts = [multiply(self._kit, self.matrix, piece.contiguous(), wide=True) for piece in several]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @property
    def least(self) -> int:
        """LLM.int8 waits for the device, which a recorded step cannot."""
        return FEW if self.many else 0

    @property
    def kind(self) -> tuple[object, ...]:
        a = self.matrix
        shapes = tuple(SHAPES[a.format].values())
        return a.format.name, a.n, a.k, self.many is not None, shapes, SLICE_BYTES, source_hash()

    def made_up(self, rows: int) -> Tensor:
        return torch.randn(rows, self.matrix.k, dtype=torch.bfloat16, device=self.matrix.numbers.device)

    def fused(self, x: Tensor) -> Tensor:
        return multiply(self._kit, self.matrix, x.contiguous(), self.bias)

    def of_many(self, x: Tensor) -> Tensor:
        return self.many(x) if self.many else self.expanded(x)

    def expanded(self, x: Tensor) -> Tensor:
        """The product slice by slice."""
        a = self.matrix
        step = max(16, min(a.n, SLICE_BYTES // (2 * a.k) // 16 * 16))
        room = torch.empty(step, a.k, dtype=torch.bfloat16, device=x.device)
        out = torch.empty(x.shape[0], a.n, dtype=torch.bfloat16, device=x.device)
        for first in range(0, a.n, step):
            count = min(step, a.n - first)
            part = expand(self._kit, a, first, count, room)
            bias = None if self.bias is None else self.bias[first : first + count]
            out[:, first : first + count] = F.linear(x, part, bias)
        return out


class WideLinear:
    """float32 rows → logits in float32, the inputs rounded to bfloat16, which the matrix is in."""

    def __init__(self, product: FewBitsLinear) -> None:
        self._product = product

    def __call__(self, x: Tensor) -> Tensor:
        return self._product.wide(x.to(torch.bfloat16))
