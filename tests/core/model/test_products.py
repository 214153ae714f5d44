"""Products with quantized matrices as a GPU runs them, its two kernels written in torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.model.cuda import products
from core.model.cuda.kept import Kept
from core.model.cuda.products import (
    FEW,
    SHAPES,
    FewBitsLinear,
    Format,
    Matrix,
    WideLinear,
    product_names,
    shape_of,
)
from core.model.cuda.switch import SIZES, tune
from core.model.linear import Linear
from core.model.quantize import Int8Linear, Nf4Linear, Quantization
from core.model.span import SpanModel
from core.terms import Span

Make = Callable[..., Path]


def numbers_of(a: Matrix) -> Tensor:
    """What kernels.cu takes a matrix for."""
    if a.format is Format.INT8:
        assert a.scales is not None
        return a.numbers.float() * a.scales[:, None]
    assert a.levels is not None
    assert a.scale_codes is not None
    assert a.scale_values is not None
    assert a.scales is not None
    assert a.offset is not None
    halves = torch.stack([a.numbers.flatten() >> 4, a.numbers.flatten() & 15], 1).flatten().long()
    blocks = torch.arange(len(a.scale_codes)) // 256
    largest = a.scale_values[a.scale_codes.long()] * a.scales[blocks] + a.offset
    return (a.levels[halves].view(-1, 64) * largest[:, None]).view(a.n, a.k)


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def multiply(
        kit: Any, a: Matrix, x: Tensor, bias: Tensor | None = None, *, gelu: bool = False, wide: bool = False
    ) -> Tensor:
        out = x.float() @ numbers_of(a).t() + (0 if bias is None else bias.float())
        out = F.gelu(out, approximate="tanh") if gelu else out
        return out if wide else out.bfloat16()

    def expand(kit: Any, a: Matrix, first: int, count: int, out: Tensor) -> Tensor:
        return out[:count].copy_(numbers_of(a)[first : first + count])

    monkeypatch.setattr(products, "multiply", multiply)
    monkeypatch.setattr(products, "expand", expand)
    monkeypatch.setattr(products, "SLICE_BYTES", 1 << 14)


def as_on_a_gpu(one: Linear) -> FewBitsLinear:
    kit: Any = None
    if isinstance(one, Nf4Linear):
        return FewBitsLinear(kit, Matrix.nf4(one.packed, one.state), one.bias)
    assert isinstance(one, Int8Linear)
    return FewBitsLinear(kit, Matrix.int8(one.numbers, one.scales), one.bias, one)


def load(folder: Path, kind: Quantization) -> SpanModel:
    model = SpanModel.load(folder, Span(1, 5), dtype=torch.bfloat16, quantization=kind)
    names = ("qkv", "dense", "up", "down")
    model.blocks = {
        layer: replace(block, **{name: as_on_a_gpu(getattr(block, name)) for name in names})
        for layer, block in model.blocks.items()
    }
    return model


@pytest.fixture(scope="module")
def folder(make_model: Make) -> Path:
    return make_model(hidden=128, heads=4, dtype=torch.float16, spread=0.1)


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


@pytest.mark.parametrize("kind", [Quantization.NF4, Quantization.INT8])
def test_both_ways_are_bitsandbytes_products(folder: Path, kind: Quantization) -> None:
    """As the matrix is read and expanded, a few rows and many, with and without gelu, and as logits."""
    plain = SpanModel.load(folder, Span(1, 2), dtype=torch.bfloat16, quantization=kind).blocks[1].up
    ours = as_on_a_gpu(plain)
    x = torch.randn(FEW + 16, 128, generator=torch.Generator().manual_seed(1)).bfloat16()
    for rows in (x[:3], x):
        assert error(ours(rows), plain(rows)) < 0.01
        assert error(ours.gelu(rows), plain.gelu(rows)) < 0.01
    assert error(ours.expanded(x), ours.fused(x)) < 0.01
    assert ours.bias is not None
    wide = WideLinear(ours)(x.float())
    assert wide.dtype is torch.float32
    assert error(wide + ours.bias.float(), ours.fused(x)) < 0.01


@pytest.mark.parametrize(("kind", "few"), [(Quantization.NF4, 32), (Quantization.INT8, FEW)])
def test_a_model_measures_its_products(
    folder: Path, kind: Quantization, few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shape once, kept for the next start; int8 goes no lower than what is recorded."""
    seconds: dict[str, float] = {}
    measured: list[str] = []
    for name, cost in (("fused", 1e-6), ("of_many", 0.0)):
        method = getattr(FewBitsLinear, name)

        def called(
            self: FewBitsLinear, x: Tensor, method: Any = method, name: str = name, cost: float = cost
        ):  # type: ignore[no-untyped-def]
            seconds["last"] = cost * len(x) if cost else 40e-6
            measured.append(f"{self.matrix.n} {self.matrix.k} {len(x)} {name}")
            return method(self, x)

        monkeypatch.setattr(FewBitsLinear, name, called)

    def timed(call: Callable[[], object]) -> float:
        call()
        return seconds["last"]

    for start in range(2):
        model = load(folder, kind)
        found = model._switching()
        assert len(found) == 4 * len(model.blocks)
        tune(found, ("a card",), Kept(tmp_path), timed, lambda: 0.0)
        assert {one.few for one in found} == {few}
        if start:
            assert not measured
        else:
            assert len(set(measured)) == 4 * 2 * (SIZES.index(128) + 1)
            measured.clear()


@pytest.mark.parametrize("kind", [Format.NF4, Format.INT8])
def test_sums_are_added_up_in_one_order_however_many_rows(kind: Format) -> None:
    """The same warps share a row of the matrix for one session as for many, by kernels compiled ahead."""
    taken = [shape_of(kind, rows) for rows in range(1, 2 * FEW)]
    assert {shape.rows for shape in taken} == {SHAPES[kind][8].rows}
    assert {shape.name(kind) for shape in taken} <= set(product_names(kind))
    assert all(8 * shape.pieces >= rows for rows, shape in enumerate(taken, 1) if rows <= max(SHAPES[kind]))
