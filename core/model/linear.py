"""Products with a weight matrix, in the form that was measured fastest for the device and dtype.

One thread of an AVX-512 CPU, matrix 4,096 × 1,024, milliseconds for 1 and 8 rows (benchmarks/micro_model.py):
bfloat16 0.72 and 1.30 packed by oneDNN, 1.04 and 1.74 plain; float32 1.18 and 1.62 packed, 1.10 and 2.37
transposed, 1.18 and 3.2 plain. Small float32 matrices (256 wide) are fastest transposed.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

PACK_FROM = 1 << 20
"""float32 matrices of this many numbers or more are packed, smaller ones transposed."""


class Linear(Protocol):
    """x [rows, in] → x · weightᵀ + bias [rows, out], optionally through BLOOM's gelu."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def gelu(self, x: Tensor) -> Tensor: ...


def linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """The fastest form for ``weight`` [out, in] on its device; keeps no reference to what it repacks."""
    if weight.device.type != "cpu":
        return PlainLinear(weight, bias)
    if weight.dtype == torch.float32 and weight.numel() < PACK_FROM:
        return TransposedLinear(weight, bias)
    if _can_pack(weight.dtype):
        return PackedLinear(weight, bias)
    return PlainLinear(weight, bias)


def _can_pack(dtype: torch.dtype) -> bool:
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):  # a torch built without oneDNN
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - see PackedLinear
    return dtype == torch.float32


class PlainLinear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(self(x), approximate="tanh")


class TransposedLinear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight.t().contiguous(), bias

    def __call__(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(self(x), approximate="tanh")


class PackedLinear:
    """The weight in oneDNN's blocked layout, by the operators that torch's own compiler emits.

    They are private to torch, whose version is pinned; without them weights stay plain.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)  # noqa: SLF001
        self.bias = bias
        self._product = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self._product(x, self.weight, self.bias, "none", [], "")
        return y

    def gelu(self, x: Tensor) -> Tensor:
        y: Tensor = self._product(x, self.weight, self.bias, "gelu", [], "tanh")
        return y


class HalfLinear:
    """float32 in and out over a float16 weight (FBGEMM), which holds any bfloat16 weight that matters.

    For the output matrix of a bfloat16 span: BLOOM's logits lie in the hundreds, where bfloat16 can
    only step by 2. It costs 15 % more time than the packed product, on one matrix.
    """

    LARGEST = 65504.0

    def __init__(self, weight: Tensor) -> None:
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight.float(), None)
        self._product = torch.ops.quantized.linear_dynamic_fp16.default

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self._product(x, self._packed)
        return y


class CudaOutput:
    """float32 rows → logits in float32, by cuBLAS, which keeps sums of 16-bit products in float32."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.t()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.mm(x.to(self._weight.dtype), self._weight, out_dtype=torch.float32)


class FloatOut:
    """Any product, with float32 in and out."""

    def __init__(self, inner: Linear, dtype: torch.dtype) -> None:
        self.inner, self.dtype = inner, dtype

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x.to(self.dtype)).float()


class Output(Protocol):
    """hidden [rows, hidden] float32 → logits [rows, vocab] float32."""

    def __call__(self, x: Tensor) -> Tensor: ...


def output_matrix(weight: Tensor) -> Output:
    """The fastest form that gives logits in float32, as precise as ``weight`` [vocab, hidden] allows."""
    if weight.is_cuda and weight.dtype != torch.float32:
        return CudaOutput(weight)
    if (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and "fbgemm" in torch.backends.quantized.supported_engines
        and float(weight.abs().max()) <= HalfLinear.LARGEST
    ):
        return HalfLinear(weight)
    return FloatOut(linear(weight, None), weight.dtype)
