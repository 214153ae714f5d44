"""Rows of three donors on one GPU, each on a host of its own, an internet in user space between them: the
links of Petals' table of three servers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.blocks import BLOCKS
from benchmarks.gpu.files import SIZES
from benchmarks.gpu.scale import SCALE
from benchmarks.gpu.workers import given, prompts, row
from benchmarks.internet.network import Internet
from benchmarks.internet.probe import round_trip_ms
from benchmarks.measure import Interval, Row, Timing, common_rate, readers
from benchmarks.wide_area.stand import FAR, NEAR, NEAR_FAST, Net, thirds
from benchmarks.wide_area.swarm import CLIENT, WideSwarm, wide_swarm
from core.model.quantize import Quantization

ANSWERS, LONG_ANSWERS, ROUNDS = SCALE.far_answers
"""At the short position, at the long one, and of eight readers at once."""
READERS = 8
TOKENS = SCALE.far_tokens
READERS_TOKENS = 4 * TOKENS
"""Of each of eight: their prompts come one after the other over a slow link."""
SHORT, LONG = SCALE.lengths
PETALS = {FAR: (1.23, 1.11), NEAR: (1.66, 1.49), NEAR_FAST: (1.71, 1.54)}
"""Its steps/s at lengths of 128 and 2,048, three servers with an A100 each (Borzunov et al. 2023)."""


def shaped_nf4_rows(folder: Path) -> AsyncGenerator[Row]:
    return _rows(folder, Quantization.NF4)


def shaped_int8_rows(folder: Path) -> AsyncGenerator[Row]:
    return _rows(folder, Quantization.INT8)


async def _rows(folder: Path, kind: Quantization) -> AsyncGenerator[Row]:
    """Other donors for each link: what they have measured of one says nothing of the next."""
    places = thirds(SIZES["ring"] + 2)
    names = [CLIENT, *(place.host for place in places)]
    more = given(folder, kind) | {"cache_tokens": 4096}
    for link in PETALS:
        async with (
            Internet([link.host(name) for name in names], mtu=link.mtu) as net,
            wide_swarm(net, folder / "ring", places, dtype="bfloat16", threads=4, more=more) as swarm,
        ):
            there = await round_trip_ms(net, CLIENT, places[0].host)
            async for one in _on(swarm, link, kind):
                yield replace(one, beside={**one.beside, "a datagram there and back, ms": there})


async def _on(swarm: WideSwarm, link: Net, kind: Quantization) -> AsyncGenerator[Row]:
    await swarm.answer(prompts(1, SHORT)[0], TOKENS)
    moved = swarm.moves
    short = [await swarm.answer(ids, TOKENS) for ids in prompts(ANSWERS, SHORT)]
    block = await _block_seconds(swarm)
    yield _at(link, kind, SHORT, short, block)
    eight = [
        common_rate(await readers(swarm, prompts(READERS, SHORT), READERS_TOKENS)) for _ in range(ROUNDS)
    ]
    rate, step = Interval.of(eight).median, Interval.of(one.step for one in short).median
    yield row(
        f"shaped-{kind}-{_name(link)}-{READERS}",
        f"three donors on one GPU, {link}, {SIZES['ring']} blocks with both ends, {READERS} readers at "
        f"{SHORT} at once: tokens/s of all",
        "tokens/s",
        eight,
        str(kind),
        beside={
            "against one": rate * step,
            f"{BLOCKS} blocks, if all of a step grew with them": rate * SIZES["ring"] / BLOCKS,
            "routes changed": swarm.moves - moved,
        },
    )
    long = [await swarm.answer(ids, TOKENS) for ids in prompts(LONG_ANSWERS, LONG - TOKENS)]
    yield _at(link, kind, LONG, long, block)


async def _block_seconds(swarm: WideSwarm) -> float:
    """Of a block in the middle donor, which has no end of the model, as it says itself."""
    middle = (await swarm.look())[1]
    return middle.step_seconds / len(middle.span)


def _at(link: Net, kind: Quantization, at: int, timings: list[Timing], block: float) -> Row:
    blocks = SIZES["ring"]
    step = Interval.of(one.step for one in timings).median
    return row(
        f"shaped-{kind}-{_name(link)}-at-{at}",
        f"three donors on one GPU, {link} between any two of them and the reader, {blocks} blocks with "
        f"both ends, one reader at {at:,}: steps/s",
        "steps/s",
        [1 / one.step for one in timings],
        str(kind),
        beside={
            f"extrapolated to {BLOCKS} blocks": 1 / (step + (BLOCKS - blocks) * block),
            "Petals, three A100": PETALS[link][at == LONG],
            "a block in a donor, ms": 1e3 * block,
            "of a step, delays, ms": 3 * link.delay_ms,
            "first token, s": Interval.of(one.first for one in timings).median,
        },
        bound=f"a step takes {1e3 * step:.1f} ms: {1e3 * blocks * block:.1f} in {blocks} blocks, "
        f"{3 * link.delay_ms:g} in three delays; the rest are words in and out, drawing, 28.7 KB on two "
        "links, and hops",
    )


def _name(link: Net) -> str:
    return f"{link.mbit:g}-{2 * link.delay_ms:g}"
