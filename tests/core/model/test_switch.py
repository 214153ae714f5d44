"""Where products with a quantized matrix change their way, by made-up times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.model.cuda.kept import Kept
from core.model.cuda.switch import BUDGET_SECONDS, FEWEST, ROUNDS, SIZES, best_split, tune

CARD = ("a card", "1.0")


class Product:
    """Takes ``fused(rows)`` and ``many(rows)`` seconds of a clock that nothing else moves."""

    def __init__(self, bench: Bench, kind: str, fused: float, many: float, least: int = 0) -> None:
        self.bench, self.kind, self.least, self.few = bench, (kind,), least, 64
        self._fused, self._many = fused, many

    def made_up(self, rows: int) -> Tensor:
        return torch.empty(rows, 0)

    def fused(self, x: Tensor) -> Tensor:
        self.bench.work(self._fused * len(x))
        return x

    def of_many(self, x: Tensor) -> Tensor:
        self.bench.work(self._many)
        return x


class Bench:
    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.calls += 1

    def timed(self, call: Callable[[], object]) -> float:
        before = self.now
        call()
        return self.now - before

    def tune(self, products: list[Product], kept: Kept) -> list[int]:
        tune(products, CARD, kept, self.timed, lambda: self.now)
        return [one.few for one in products]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_each_shape_changes_where_the_other_way_begins_to_win(bench: Bench) -> None:
    """Products that are alike are measured once."""
    wide = [Product(bench, "wide", 1e-6, 100e-6) for _ in range(3)]
    tall = Product(bench, "tall", 1e-6, 33e-6)
    slow, never = Product(bench, "slow", 1e-6, 1e-3), Product(bench, "never", 1e-4, 1e-6)
    assert bench.tune([*wide, tall, slow, never], Kept()) == [64, 64, 64, 32, 256, FEWEST]
    sizes = [*SIZES, *SIZES[:4], *SIZES, SIZES[0]]  # none beyond where one way is hopeless
    assert bench.calls == len(sizes) * 2 * (1 + ROUNDS)


def test_what_was_found_out_is_not_measured_again(bench: Bench, tmp_path: Path) -> None:
    """For this card; a damaged file counts as none, and a folder that cannot be written to as no folder."""
    kept = Kept(tmp_path / "kept")
    assert bench.tune([Product(bench, "tall", 1e-6, 33e-6)], kept) == [32]
    calls = bench.calls
    assert bench.tune([Product(bench, "tall", 1e-6, 33e-6)], kept) == [32]
    assert bench.calls == calls
    (file,) = (tmp_path / "kept").iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert bench.tune([Product(bench, "tall", 1e-6, 100e-6)], kept) == [64]
    assert bench.calls > calls
    (tmp_path / "full").touch()
    assert bench.tune([Product(bench, "tall", 1e-6, 33e-6)], Kept(tmp_path / "full")) == [32]


def test_it_has_an_end(bench: Bench, tmp_path: Path) -> None:
    """What was not measured in time keeps what it had, and nothing is kept of it."""
    fast, slow = Product(bench, "fast", 1e-6, 33e-6), Product(bench, "slow", 1e-3, 0.1)
    assert bench.tune([fast, slow], Kept(tmp_path)) == [32, 64]
    assert bench.now < BUDGET_SECONDS + 0.3
    assert len(list(tmp_path.iterdir())) == 1


def test_what_may_not_wait_for_the_device_stays(bench: Bench) -> None:
    """However slow it is."""
    assert bench.tune([Product(bench, "int8", 1e-4, 1e-6, least=64)], Kept()) == [64]


def test_one_stray_time_decides_nothing() -> None:
    """The split is where least is lost over all sizes."""
    many = dict.fromkeys(SIZES, 1.0)
    fused = {16: 0.2, 32: 1.1, 64: 0.7, 128: 1.6, 256: 3.0}
    assert best_split(fused, many) == 64
    assert best_split(dict.fromkeys(SIZES, 1.0), many) == 256
