"""Rows of the tail's proposals: on text that repeats itself, and on text that does not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.measure import Bar, Contender, Interval, Row, Timing, rounds, same_ids
from benchmarks.swarm_of_workers import split
from benchmarks.wide_area.stand import DONORS, FAR, Bench, layers_of, median, places_for, stand
from benchmarks.wide_area.swarm import Place, WideSwarm
from core.terms import Sampling, Token


async def speculation(bench: Bench, name: str) -> list[Row]:
    """The tail's proposals, on text that repeats itself and on text that does not."""
    spans = split(await layers_of(bench, "long"), DONORS)
    places = [*places_for(spans), Place("s4", spans[-1], speculate=True)]
    rows = []
    async with stand(bench, FAR, "long", "float32", places) as here:
        off, on = here.swarm.view(["s1", "s2", "s3"]), here.swarm.view(["s1", "s2", "s4"])
        for what, sampling, bar, pairs in (
            ("greedy, which repeats itself", Sampling(), 2.0, bench.scale.pairs),
            (
                "drawn at temperature 1, which repeats nothing",
                Sampling(temperature=1.0),
                0.97,
                bench.scale.pairs,
            ),
        ):
            contenders: dict[str, Contender] = {"off": Drawn(off, sampling), "on": Drawn(on, sampling)}
            prompts = bench.prompts(pairs, 64, here.vocab)
            timings = await rounds(contenders, prompts, 32, bench.part(2 - len(rows)), bench.until)
            both = list(zip(timings["on"], timings["off"], strict=True))
            if not both:
                break
            rows.append(
                Row(
                    name,
                    f"long, {DONORS} donors, {FAR}: speculation on against off, tokens/s, text {what}",
                    "×",
                    Interval.of(a.rate / b.rate for a, b in both),
                    1,
                    "float32",
                    Bar(bar),
                    {
                        "on, tokens/s": median(a.rate for a, _ in both),
                        "off, tokens/s": median(b.rate for _, b in both),
                        "same tokens": same_ids(timings["on"], timings["off"]),
                    },
                )
            )
    return rows


@dataclass(frozen=True)
class Drawn:
    """A swarm's answers drawn otherwise than greedily; the seed is the prompt's."""

    swarm: WideSwarm
    sampling: Sampling

    async def answer(self, ids: Sequence[int], count: int) -> Timing:
        session = self.swarm.session()
        sampling = replace(self.sampling, seed=sum(ids))
        asked, times, tokens = time.perf_counter(), [], []
        try:
            async for event in session.answer(ids, sampling, count, frozenset()):
                if isinstance(event, Token):
                    times.append(time.perf_counter())
                    tokens.append(event.token_id)
        finally:
            session.close()
        if len(tokens) != count:
            raise RuntimeError(f"{len(tokens)} of {count} tokens came")
        return Timing(asked, tuple(times), tuple(tokens))
