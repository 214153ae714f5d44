"""Up to how many rows a quantized matrix is multiplied as it is read, and from how many on it is expanded.

That depends on the device's bandwidth, its matrix units and the matrix's shape, so it is measured on a
worker's own layers, once for each device, shape and version, and kept. Measuring is short and has an end:
what was not measured in time keeps the constant, and is measured at the next start.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from core.model.cuda.kept import Kept, name_of

log = logging.getLogger(__name__)

SIZES = (16, 32, 64, 128, 256)
"""Numbers of rows that are tried. Fewer are always multiplied as the matrix is read: the device waits for its
memory then, and an expanded matrix is four times as much to write and to read again."""
FEWEST = SIZES[0] // 2
ROUNDS = 3
HOPELESS = 2.0
"""Where multiplying a matrix as it is read takes so many times as long as expanding it, more rows are not
tried: they take longer still, and a small card would have no time for the next shape."""
BUDGET_SECONDS = 0.25
"""For all shapes of a span together."""


class Switching(Protocol):
    """A product in two ways."""

    few: int

    @property
    def least(self) -> int:
        """``few`` may not be less: what is recorded has to stay without waiting for the device."""

    @property
    def kind(self) -> tuple[object, ...]:
        """What its times depend on, the device left out; alike for products that are alike."""

    def made_up(self, rows: int) -> Tensor: ...

    def fused(self, x: Tensor) -> Tensor: ...

    def of_many(self, x: Tensor) -> Tensor: ...


Timed = Callable[[Callable[[], object]], float]
"""Seconds of a call, the device's work included."""


def tune(
    products: Iterable[Switching],
    device: tuple[object, ...],
    kept: Kept,
    timed: Timed,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Sets ``few`` of all ``products``. ``device``: what their times depend on beside their kinds."""
    alike: dict[tuple[object, ...], list[Switching]] = {}
    for product in products:
        alike.setdefault(product.kind, []).append(product)
    until = clock() + BUDGET_SECONDS
    for kind, members in alike.items():
        name = name_of("few", device, kind, SIZES)
        few = _read(kept, name)
        if few is None:
            few = _measured(members[0], timed, lambda: clock() < until)
            if few is None:
                log.warning("no time to measure %s", kind)
                return
            kept.write(name, json.dumps(few).encode())
        for product in members:
            product.few = max(few, product.least)


def _read(kept: Kept, name: str) -> int | None:
    found = kept.read(name)
    few = json.loads(found) if found is not None else None
    return few if isinstance(few, int) and FEWEST <= few <= SIZES[-1] else None


def _measured(product: Switching, timed: Timed, has_time: Callable[[], bool]) -> int | None:
    fused: dict[int, float] = {}
    many: dict[int, float] = {}
    for size in SIZES:
        x = product.made_up(size)
        for way, call in ((fused, product.fused), (many, product.of_many)):
            call(x)  # what is set up at first use is no part of it
            taken = []
            for _ in range(ROUNDS):
                if not has_time():
                    return None
                taken.append(timed(lambda call=call, x=x: call(x)))  # type: ignore[misc]
            way[size] = statistics.median(taken)
        if fused[size] > HOPELESS * many[size]:
            break
    return best_split(fused, many)


def best_split(fused: Mapping[int, float], many: Mapping[int, float]) -> int:
    """The number of rows up to which ``fused`` shall be taken, at least FEWEST: where the times lost against
    the better way at each size are least in all, so that one stray time decides nothing."""
    sizes = sorted(fused)

    def lost(split: int) -> float:
        return sum(
            (fused[size] if size <= split else many[size]) / min(fused[size], many[size]) - 1
            for size in sizes
        )

    return min((FEWEST, *sizes), key=lambda split: (lost(split), -split))


def device_seconds(device: torch.device) -> Timed:
    """Times on ``device`` by its own clock."""

    def timed(call: Callable[[], object]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return timed


def described(device: torch.device) -> tuple[object, ...]:
    """What times on a device depend on: the card and the versions of what runs on it."""
    properties = torch.cuda.get_device_properties(device)
    card = (properties.name, properties.major, properties.minor, properties.multi_processor_count)
    return *card, properties.total_memory, torch.__version__, torch.version.cuda
