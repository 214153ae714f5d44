"""Blocks and the head with their matrices in 4 or 8 bits, by bitsandbytes.

NF4: 4 bits a number, a scale for every 64, the scales themselves in 8 bits (double quantization; QLoRA,
Dettmers et al. 2023, https://arxiv.org/abs/2305.14314). int8: a scale a row, and inputs of 6.0 or more
multiplied in 16 bits (LLM.int8, Dettmers et al. 2022, https://arxiv.org/abs/2208.07339). The head is int8
with either: logits decide between tokens. Norms and biases stay as they are; the embedding stays mapped.

Matrices are quantized one by one from the mapped file, so memory holds the quantized layers and one
matrix more. What was quantized is kept in a ``Store`` and read straight back.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import ModelError
from core.model.block import LINEARS, NORMS, Block, Norm, make_block
from core.model.config import ModelConfig
from core.model.cuda.kernels import kernels_of
from core.model.cuda.products import FewBitsLinear, Matrix, WideLinear
from core.model.linear import FloatOut, Linear, Output
from core.model.store import Store
from core.model.stored import HEAD, layer_name
from core.model.weights import Checkpoint

THRESHOLD = 6.0
"""Inputs of this size or more are outliers to LLM.int8."""


class Quantization(StrEnum):
    NONE = "none"
    INT8 = "int8"
    NF4 = "nf4"


def of_head(kind: Quantization) -> Quantization:
    """How the head is kept when blocks are kept as ``kind``."""
    return kind if kind is Quantization.NONE else Quantization.INT8


def stored_layers(store: Store, config: ModelConfig) -> frozenset[int]:
    """The layers that need not be fetched: they are there, quantized."""
    return frozenset(layer for layer in range(config.layers) if store.size(layer_name(config, layer)))


class Quantized:
    """Makes the quantized layers of one checkpoint, or reads them from ``store``."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: ModelConfig,
        kind: Quantization,
        *,
        dtype: torch.dtype,
        device: torch.device,
        store: Store | None,
    ) -> None:
        if kind is Quantization.NONE:
            raise ValueError("nothing to quantize")
        self._checkpoint, self._config, self._kind = checkpoint, config, kind
        self._dtype, self._device, self._store = dtype, device, store

    @property
    def kind(self) -> Quantization:
        return self._kind

    def stored(self, layer: str) -> int:
        """Bytes of the layer's file; 0 where it is not kept."""
        return self._store.size(layer) if self._store else 0

    def block(self, number: int) -> Block:
        """Block ``number``, counted from 0 as in the checkpoint's names."""
        name = f"h.{number}"
        held = self._read(name)
        if held is None:
            held = self._make(name, {f"{name}.{one}": self._kind for one in LINEARS}, NORMS)
        return make_block(
            self._config,
            self._dtype,
            norm=lambda one: self._norm(held, one),
            product=lambda one: unpack(held, one, self._kind, self._dtype, self._device),
        )

    def head(self, matrix: str) -> tuple[Norm, Output]:
        """The last norm and the output matrix, which the checkpoint calls ``matrix``."""
        held = self._read(HEAD)
        if held is None:
            held = pack(self._checkpoint.tensor(matrix), "matrix", of_head(self._kind), self._device)
            held |= {f"ln_f.{part}": self._checkpoint.tensor(f"ln_f.{part}") for part in ("weight", "bias")}
            self._keep(HEAD, held)
        product = unpack(held, "matrix", of_head(self._kind), self._dtype, self._device)
        norm = self._norm(held, "ln_f")
        if isinstance(product, FewBitsLinear):
            return norm, WideLinear(product)
        return norm, FloatOut(product, torch.float32)

    def _make(
        self, layer: str, linears: Mapping[str, Quantization], norms: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """A layer's tensors by their names within the layer, quantized now and kept."""
        held: dict[str, Tensor] = {}
        for name, kind in linears.items():
            short = name.removeprefix(f"{layer}.")
            held |= pack(self._checkpoint.tensor(f"{name}.weight"), short, kind, self._device)
            held[f"{short}.bias"] = self._checkpoint.tensor(f"{name}.bias")
        for short in norms:
            for part in ("weight", "bias"):
                held[f"{short}.{part}"] = self._checkpoint.tensor(f"{layer}.{short}.{part}")
        self._keep(layer, held)
        return held

    def _read(self, layer: str) -> dict[str, Tensor] | None:
        return self._store.read(layer, self._device) if self._store else None

    def _keep(self, layer: str, held: Mapping[str, Tensor]) -> None:
        if self._store:
            self._store.write(layer, held)

    def _norm(self, held: Mapping[str, Tensor], name: str) -> Norm:
        weight, bias = (
            held[f"{name}.{part}"].to(self._device, torch.float32, copy=True) for part in ("weight", "bias")
        )
        return Norm(weight, bias, self._config.epsilon)


def pack(
    weight: Tensor, name: str, kind: Quantization, device: torch.device | None = None
) -> dict[str, Tensor]:
    """``weight`` [out, in] quantized on ``device`` or where it is; their names begin with ``name``."""
    bnb = load_bitsandbytes()
    device = device or weight.device
    if kind is Quantization.INT8:
        numbers, scales = _int8(weight, device)
        return {f"{name}.int8": numbers, f"{name}.scales": scales}
    packed, state = bnb.functional.quantize_4bit(
        weight.to(device), compress_statistics=True, quant_type="nf4"
    )
    parts = state.as_dict(packed=True)
    return {f"{name}.nf4": packed} | {f"{name}.nf4.{part}": tensor for part, tensor in parts.items()}


PIECE = 1 << 26
"""Numbers of a matrix that are quantized at once, so that memory holds no second copy of an output matrix.
bitsandbytes counts in 32 bits besides: 3.6 thousand million, as BLOOM has, make its kernel write astray."""


def _int8(weight: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """A row's numbers do not depend on others', so rows go some at a time."""
    bnb = load_bitsandbytes()
    rows, columns = weight.shape
    numbers = torch.empty(rows, columns, dtype=torch.int8, device=device)
    scales = torch.empty(rows, dtype=torch.float32, device=device)
    step = max(1, PIECE // columns)
    for first in range(0, rows, step):
        part = slice(first, first + step)
        numbers[part], scales[part], _ = bnb.functional.int8_vectorwise_quant(
            weight[part].to(device, torch.float16)
        )
    return numbers, scales


def unpack(
    held: Mapping[str, Tensor], name: str, kind: Quantization, dtype: torch.dtype, device: torch.device
) -> Linear:
    """The product with the matrix ``name`` of ``held``, on ``device``; inputs and outputs are ``dtype``."""
    bias = held.get(f"{name}.bias")
    bias = None if bias is None else bias.to(device, dtype, copy=True)
    try:
        if kind is Quantization.INT8:
            plain = Int8Linear(held[f"{name}.int8"].to(device), held[f"{name}.scales"].to(device), bias)
            return _fastest(lambda: Matrix.int8(plain.numbers, plain.scales), plain, dtype)
        prefix = f"{name}.nf4."
        state = {key.removeprefix(prefix): one for key, one in held.items() if key.startswith(prefix)}
        nf4 = Nf4Linear(held[f"{name}.nf4"].to(device), state, bias, dtype)
        return _fastest(lambda: Matrix.nf4(nf4.packed, nf4.state), nf4, dtype)
    except KeyError as error:
        raise ModelError(f"a quantized layer lacks {error}", "Remove it: it is made anew.") from None


def _fastest(matrix: Callable[[], Matrix], plain: Int8Linear | Nf4Linear, dtype: torch.dtype) -> Linear:
    """Our own kernels where there are any for this device, dtype and matrix, else bitsandbytes' products."""
    if plain.device.type != "cuda" or dtype is not torch.bfloat16:
        return plain
    kit, held = kernels_of(plain.device), matrix()
    if kit is None or not kit.multiplies or not held.fits:
        return plain
    return FewBitsLinear(kit, held, plain.bias, plain if isinstance(plain, Int8Linear) else None)


class _Gelu:
    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(self(x), approximate="tanh")


class Int8Linear(_Gelu):
    """``numbers`` int8 [out, in], ``scales`` float32 [out]."""

    def __init__(self, numbers: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        bnb = load_bitsandbytes()
        self.numbers, self.scales, self.bias = numbers, scales, bias
        self.device = numbers.device
        self._matmul = bnb.matmul
        self._state = bnb.MatmulLtState()
        self._state.threshold, self._state.has_fp16_weights = THRESHOLD, False
        self._state.CB, self._state.SCB = numbers, scales

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self._matmul(x, self._state.CB, bias=self.bias, state=self._state)
        return y


class Nf4Linear(_Gelu):
    """``packed`` uint8, two numbers a byte, and bitsandbytes' state of it."""

    def __init__(
        self, packed: Tensor, state: dict[str, Any], bias: Tensor | None, dtype: torch.dtype
    ) -> None:
        bnb = load_bitsandbytes()
        self.packed, self.bias = packed, bias
        self.device = packed.device
        self._matmul = bnb.matmul_4bit
        self.state = bnb.functional.QuantState.from_dict(dict(state), device=packed.device)
        self.state.dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self._matmul(x, self.packed.t(), quant_state=self.state, bias=self.bias)
        return y


def load_bitsandbytes() -> ModuleType:
    """bitsandbytes, imported when first needed. Safe in any thread.

    ModelError where it is missing. What it logs about kernels that it can do without is not shown.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        with _loading, warnings.catch_warnings(), _uncompiled():
            warnings.simplefilter("ignore")
            import bitsandbytes
    except ImportError as error:
        raise ModelError(
            f"quantizing needs bitsandbytes, which cannot be loaded: {error}",
            "Install it, or set quantization to none.",
        ) from None
    module: ModuleType = bitsandbytes
    return module


def begin_loading() -> None:
    """In a thread: imports bitsandbytes while the first layers are read."""

    def load() -> None:
        with suppress(ModelError):  # who needs it is told again
            load_bitsandbytes()

    threading.Thread(target=load, name="bitsandbytes", daemon=True).start()


_loading = threading.Lock()


@contextmanager
def _uncompiled() -> Iterator[None]:
    """bitsandbytes asks at import for compiled forms of functions that we do not use, and torch then imports
    its compiler: seconds of every start, and a hundred megabytes. They stay as they are written."""
    if "bitsandbytes" in sys.modules:
        yield
        return

    def plain(function: Any = None, **_: object) -> Any:
        return function if function is not None else plain

    compiler, torch.compile = torch.compile, plain  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compiler
