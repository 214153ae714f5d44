"""What the rows of the wide area stand on: links, an internet, donors, and the engine alone beside them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from benchmarks.checkpoints import random_weights
from benchmarks.children import Child, child
from benchmarks.internet.network import Host, Internet
from benchmarks.measure import Timing, in_time
from benchmarks.swarm_of_workers import Dtype, split
from benchmarks.wide_area.paced import Pace
from benchmarks.wide_area.swarm import CLIENT, Place, WideSwarm, wide_swarm
from core.model.config import read_config
from core.terms import Span

T = TypeVar("T")
DONORS = 3
READERS = 8
AHEAD = 24
"""Timed steps at a position."""


@dataclass(frozen=True)
class Net:
    mbit: float
    delay_ms: float
    """One way, between any two hosts."""
    mtu: int = 1500

    def host(self, name: str) -> Host:
        return Host(name, self.mbit, self.mbit, self.delay_ms / 2)

    def __str__(self) -> str:
        rate = f"{self.mbit / 1000:g} Gbit/s" if self.mbit >= 1000 else f"{self.mbit:g} Mbit/s"
        return f"{rate}, {2 * self.delay_ms:g} ms round trip"


NEAR_FAST = Net(1000, 2, mtu=9000)
NEAR = Net(100, 2)
FAR = Net(100, 50)


@dataclass(frozen=True)
class Scale:
    """How much is measured: ``pairs`` rounds where there is a bar, ``few`` elsewhere."""

    pairs: int
    few: int
    tokens: int
    positions: tuple[int, ...]
    seconds: float = math.inf
    """After so long a row ends, with what it has."""


FULL = Scale(pairs=30, few=4, tokens=12, positions=(64, 128, 512, 1024, 1984))
QUICK = Scale(pairs=2, few=1, tokens=6, positions=(64, 128))


@dataclass(frozen=True)
class Bench:
    """What a benchmark needs: how much to measure, where checkpoints are made, and made-up prompts."""

    scale: Scale
    folder: Path
    chance: Random
    until: float = math.inf
    """When the row must end, by ``time.monotonic``: what is under way then is left out."""

    def part(self, parts: int) -> float:
        """Seconds for the next of so many parts that are left of the row."""
        return max(0.0, self.until - time.monotonic()) / parts

    async def each(self, samples: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """What the samples return, one after the other, as far as there is time."""
        found: list[T] = []
        for sample in samples:
            one = await in_time(sample(), self.until) if time.monotonic() < self.until else None
            if one is None:
                break
            found.append(one)
        return found

    def prompts(self, count: int, length: int, vocab: int) -> list[list[int]]:
        return [[self.chance.randrange(4, vocab) for _ in range(length)] for _ in range(count)]


@dataclass(frozen=True)
class Stand:
    net: Internet
    swarm: WideSwarm
    layers: int
    vocab: int
    alone: Child | None


@asynccontextmanager
async def stand(
    bench: Bench,
    link: Net,
    shape: str,
    dtype: Dtype,
    places: Sequence[Place],
    *,
    alone: bool = False,
    hosts: Sequence[Host] = (),
    more: Mapping[str, Any] = {},
) -> AsyncIterator[Stand]:
    """Donors at ``places``, all serving; ``hosts`` are those whose links are not as ``link`` says, ``more``
    as in ``wide_swarm``."""
    folder = await random_weights(shape, bench.folder)
    config = read_config(folder)
    async with AsyncExitStack() as stack:
        one = None
        if alone:
            one = await stack.enter_async_context(
                child("benchmarks.engine_alone", folder, dtype=dtype, threads=1)
            )
        names = dict.fromkeys((CLIENT, *(place.host for place in places)))
        special = {host.name: host for host in hosts}
        linked = [special.get(name) or link.host(name) for name in names]
        net = await stack.enter_async_context(Internet(linked, mtu=link.mtu))
        swarm = await stack.enter_async_context(
            wide_swarm(net, folder, places, dtype=dtype, threads=1, more=more)
        )
        yield Stand(net, swarm, config.layers, config.vocab, one)


async def layers_of(bench: Bench, shape: str) -> int:
    return read_config(await random_weights(shape, bench.folder)).layers


def places_for(spans: Sequence[Span], pace: Pace | None = None) -> list[Place]:
    return [Place(f"s{number}", span, pace=pace) for number, span in enumerate(spans, 1)]


def thirds(layers: int) -> list[Place]:
    """Three donors with a near-equal part of the layers each."""
    return places_for(split(layers, DONORS))


def called(shape: str, pace: Pace | None) -> str:
    if pace is None:
        return shape
    return f"*emulated* (step {pace.step * 1e3:.1f} ms, row {pace.row * 1e3:.2f} ms)"


def step_together(all_: Sequence[Timing], timing: Timing) -> float:
    """Seconds a token of one reader while all of them decode."""
    start = max(other.times[0] for other in all_)
    end = min(other.times[-1] for other in all_)
    times = [at for at in timing.times if start <= at <= end]
    if len(times) < 3:
        raise ValueError("the readers hardly decoded at the same time: ask for more tokens")
    return (times[-1] - times[0]) / (len(times) - 1)


def median(values: Iterable[float]) -> float:
    return statistics.median(values)
