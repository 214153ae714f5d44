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
PETALS = {NEAR_FAST: (1.71, 1.54), NEAR: (1.66, 1.49), FAR: (1.23, 1.11)}
"""Its steps/s at lengths of 128 and 2,048, three servers with an A100 each (Borzunov et al. 2023)."""


async def shaped_rows(folder: Path) -> AsyncGenerator[Row]:
    places = thirds(SIZES["ring"] + 2)
    for kind in (Quantization.INT8, Quantization.NF4):
        names = [CLIENT, *(place.host for place in places)]
        async with (
            Internet([NEAR_FAST.host(name) for name in names], mtu=NEAR_FAST.mtu) as net,
            wide_swarm(
                net,
                folder / "ring",
                places,
                dtype="bfloat16",
                threads=4,
                more=given(folder, kind) | {"cache_tokens": 4096},
            ) as swarm,
        ):
            for link in PETALS:
                await _shape(net, link)
                there = await round_trip_ms(net, CLIENT, places[0].host)
                for one in await _on(swarm, link, kind):
                    yield replace(one, beside={**one.beside, "a datagram there and back, ms": there})


async def _shape(net: Internet, link: Net) -> None:
    """All links are as ``link`` says from now on."""
    net.pack(link.mtu)
    for name in net.hosts:
        host = link.host(name)
        await net.set(name, up_mbit=host.up_mbit, down_mbit=host.down_mbit, delay_ms=host.delay_ms)


async def _on(swarm: WideSwarm, link: Net, kind: Quantization) -> list[Row]:
    await swarm.answer(prompts(1, SHORT)[0], TOKENS)  # windows and what was measured of the old links
    moved = swarm.moves
    short = [await swarm.answer(ids, TOKENS) for ids in prompts(ANSWERS, SHORT)]
    block = await _block_seconds(swarm)
    long = [await swarm.answer(ids, TOKENS) for ids in prompts(LONG_ANSWERS, LONG - TOKENS)]
    eight = [
        common_rate(await readers(swarm, prompts(READERS, SHORT), READERS_TOKENS)) for _ in range(ROUNDS)
    ]
    found = [_at(link, kind, at, timings, block) for at, timings in ((SHORT, short), (LONG, long))]
    blocks = SIZES["ring"]
    step = Interval.of(one.step for one in short).median
    found.append(
        row(
            f"shaped-{kind}-{_name(link)}-{READERS}",
            f"the same links, {READERS} readers at {SHORT} at once: tokens/s of all",
            "tokens/s",
            eight,
            str(kind),
            beside={
                "against one": Interval.of(eight).median * step,
                f"{BLOCKS} blocks, if all of a step grew with them": Interval.of(eight).median
                * blocks
                / BLOCKS,
                "routes changed": swarm.moves - moved,
            },
        )
    )
    return found


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
        f"{3 * link.delay_ms:g} delays of the three hops; the rest are words in and out, drawing, "
        "28.7 KB on two links, and hops",
    )


def _name(link: Net) -> str:
    return f"{link.mbit:g}-{2 * link.delay_ms:g}"
