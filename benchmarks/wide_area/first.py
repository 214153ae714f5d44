"""Rows of a prompt's first token: a long one in chunks that flow through the ring, and in one piece."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.measure import Bar, Contender, Interval, Row, rounds
from benchmarks.swarm_of_workers import Dtype, split
from benchmarks.wide_area.paced import Pace
from benchmarks.wide_area.stand import (
    DONORS,
    FAR,
    Bench,
    called,
    layers_of,
    median,
    places_for,
    stand,
)
from benchmarks.wide_area.swarm import Place
from core.ring.client import CHUNK

LONG = 1024
EMULATED = Pace(0.19, 0.0013, 0.0019)
"""A third of the reference's computing."""


@dataclass(frozen=True)
class Chain:
    shape: str
    dtype: Dtype
    pace: Pace | None
    pairs: int


async def emulated(bench: Bench, name: str) -> list[Row]:
    """At the reference's pace."""
    return await _measure(bench, name, Chain("thin", "float32", EMULATED, bench.scale.pairs))


async def real(bench: Bench, name: str) -> list[Row]:
    """As this machine computes, which may have too few cores for three stages at once."""
    return await _measure(bench, name, Chain("560m", "bfloat16", None, bench.scale.few * 2 + 1))


async def _measure(bench: Bench, name: str, chain: Chain) -> list[Row]:
    """Of two sets of donors one gets chunks; the other gets the prompt in one piece, and runs it so."""
    spans = split(await layers_of(bench, chain.shape), DONORS)
    whole = replace(chain.pace or Pace(0.0, 0.0, 0.0), rows=2 * LONG)
    places = [
        *places_for(spans, chain.pace),
        *(Place(f"w{number}", span, pace=whole) for number, span in enumerate(spans)),
    ]
    async with stand(bench, FAR, chain.shape, chain.dtype, places) as here:
        hosts = [place.host for place in places]
        contenders: dict[str, Contender] = {
            "chunks": here.swarm.view(hosts[:DONORS]),
            "whole": here.swarm.view(hosts[DONORS:], here.swarm.config.max_length),
        }
        prompts = bench.prompts(chain.pairs, LONG, here.vocab)
        timings = await rounds(contenders, prompts, 2, bench.part(1), bench.until)
    both = list(zip(timings["chunks"], timings["whole"], strict=True))
    if not both:
        return []
    return [
        Row(
            name,
            f"{called(chain.shape, chain.pace)}, {DONORS} donors, {FAR}: first token of a {LONG:,}-token "
            f"prompt, in chunks of at most {CHUNK} against in one piece",
            "×",
            Interval.of(ours.first / theirs.first for ours, theirs in both),
            1,
            chain.dtype,
            Bar(0.5, at_least=False),
            {
                "in chunks, s": median(ours.first for ours, _ in both),
                "in one piece, s": median(theirs.first for _, theirs in both),
            },
            "" if chain.pace else "three real stages share this machine's cores",
        )
    ]
