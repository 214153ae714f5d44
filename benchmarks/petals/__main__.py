"""Petals beside us: the same weights, hosts and prompts, in turns.

    python -m benchmarks.petals [--quick] [--only NAME …] [--pairs N] [--minutes M] [--out DIR]

Installs ``petals`` of the package registry into an environment of its own first (see ``install``); its
servers, client and measuring loop are its own. The wide-area rows need root. ``--only`` measures some rows
anew.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.checkpoints import random_weights
from benchmarks.children import child
from benchmarks.command import Asked
from benchmarks.internet.network import Internet
from benchmarks.measure import (
    Contender,
    Interval,
    Results,
    Row,
    Run,
    Timing,
    common_rate,
    readers,
    rounds,
    same_ids,
)
from benchmarks.petals.install import python
from benchmarks.petals.swarm import Petals, as_hub_folder, petals_swarm
from benchmarks.swarm_of_workers import Dtype, Swarm, split, workers
from benchmarks.wide_area.stand import DONORS, FAR, NEAR, NEAR_FAST, Net, median, thirds
from benchmarks.wide_area.swarm import CLIENT, wide_swarm
from core.errors import IdlebloomError
from core.model.config import read_config
from core.paths import bundled_model

NOTES = """\
Petals 2.2.0.post1 with hivemind 1.1.10.post2 in an environment of its own (`benchmarks/petals/install.py`),
unquantized, its servers given a third of the blocks each; embeddings and head are its client's, as it has
them. Ours and theirs hold the same weights on the same machine and, in the wide area (see wide_area.md), on
the same hosts at the same time; one is asked while the other idles, in turns on the same prompts, greedy, one
thread a process. Tokens a second are after the first. Eight readers are one process on either side. 560m is
BLOOM-560m's shape with a vocabulary of 32,768 and random weights in bfloat16, toy the bundled model in
float32 (hidden 256, 8 blocks)."""
READERS = 8
HOSTS = tuple(f"s{number}" for number in range(1, DONORS + 1))


@dataclass(frozen=True)
class Scale:
    pairs: int
    few: int
    tokens: int
    long_prompt: int
    seconds: float = float("inf")


FULL = Scale(pairs=15, few=3, tokens=16, long_prompt=1024)
QUICK = Scale(pairs=1, few=1, tokens=6, long_prompt=256)


@dataclass(frozen=True)
class Stand:
    """Both swarms on the same weights, and transformers where there is no network."""

    model: str
    dtype: Dtype
    ours: Swarm
    theirs: Petals
    whole: Contender | None
    vocab: int
    where: str

    def prompts(self, count: int, length: int) -> list[list[int]]:
        chance = random.Random(length)
        return [[chance.randrange(4, self.vocab) for _ in range(length)] for _ in range(count)]

    def row(self, name: str, what: str, value: Interval, **beside: float) -> Row:
        words = f"{self.model}, {DONORS} donors, {self.where}: {what}, against Petals"
        named = {key.replace("_", " "): number for key, number in beside.items()}
        return Row(name, words, "×", value, 1, self.dtype, None, named)


@asynccontextmanager
async def stand(model: str, link: Net | None, made: Path) -> AsyncIterator[Stand]:
    dtype: Dtype = "float32" if model == "toy" else "bfloat16"
    folder = bundled_model() if model == "toy" else await random_weights(model, made)
    config, hub = read_config(folder), await asyncio.to_thread(as_hub_folder, folder, made / model)
    blocks = [(span.start, span.end) for span in split(config.layers - 2, DONORS)]
    async with AsyncExitStack() as stack:
        net, whole = None, None
        if link is None:
            whole = await stack.enter_async_context(
                child("benchmarks.reference", folder, dtype=dtype, threads=1)
            )
            starting = workers(folder, split(config.layers, DONORS), dtype=dtype, threads=1)
            ours: Swarm = await stack.enter_async_context(starting)
        else:
            net = await stack.enter_async_context(
                Internet([link.host(name) for name in (CLIENT, *HOSTS)], mtu=link.mtu)
            )
            places = thirds(config.layers)
            ours = await stack.enter_async_context(wide_swarm(net, folder, places, dtype=dtype, threads=1))
        theirs = await stack.enter_async_context(
            petals_swarm(python(_say), hub, blocks, HOSTS, dtype=dtype, net=net)
        )
        yield Stand(model, dtype, ours, theirs, whole, config.vocab, str(link) if link else "loopback")


async def one_reader(here: Stand, name: str, scale: Scale, length: int = 128) -> list[Row]:
    contenders: dict[str, Contender] = {"theirs": here.theirs, "ours": here.ours}
    if here.whole is not None:
        contenders["whole"] = here.whole
    prompts = here.prompts(scale.pairs, length)
    timings = await rounds(contenders, prompts, scale.tokens, scale.seconds)
    ours, theirs = timings["ours"], timings["theirs"]
    beside = {
        "ours,_tokens/s": median(t.rate for t in ours),
        "Petals,_tokens/s": median(t.rate for t in theirs),
        "same_tokens": same_ids(ours, theirs),
    }
    if "whole" in timings:
        beside["transformers.generate_whole,_tokens/s"] = median(t.rate for t in timings["whole"])
    ratio = Interval.of(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))
    return [here.row(name, f"1 reader at {length:,}, tokens/s", ratio, **beside)]


async def eight_readers(here: Stand, name: str, scale: Scale) -> list[Row]:
    mine, petals = list[float](), list[float]()
    for _ in range(scale.few):
        prompts = here.prompts(READERS, 128)
        petals.append(_rate(await here.theirs.answers(prompts, 2 * scale.tokens)))
        mine.append(_rate(await readers(here.ours, prompts, 2 * scale.tokens)))
    ratio = Interval.of(a / b for a, b in zip(mine, petals, strict=True))
    beside = {"ours,_tokens/s": median(mine), "Petals,_tokens/s": median(petals)}
    return [here.row(name, f"{READERS} readers at once, tokens/s in all", ratio, **beside)]


def _rate(timings: Sequence[Timing]) -> float:
    try:
        return common_rate(timings)
    except ValueError:  # some had ended before others began
        start, end = min(t.times[0] for t in timings), max(t.times[-1] for t in timings)
        return sum(len(t.times) - 1 for t in timings) / (end - start)


async def first_token(here: Stand, name: str, scale: Scale) -> list[Row]:
    contenders: dict[str, Contender] = {"theirs": here.theirs, "ours": here.ours}
    prompts = here.prompts(scale.few, scale.long_prompt)
    timings = await rounds(contenders, prompts, 2, scale.seconds)
    both = list(zip(timings["theirs"], timings["ours"], strict=True))
    ratio = Interval.of(theirs.first / ours.first for theirs, ours in both)
    beside = {
        "ours,_s": median(ours.first for _, ours in both),
        "Petals,_s": median(theirs.first for theirs, _ in both),
    }
    what = f"first token of a {scale.long_prompt:,}-token prompt, times sooner"
    return [here.row(name, what, ratio, **beside)]


Measure = Callable[[Stand, str, Scale], Awaitable[list[Row]]]
GROUPS: dict[str, tuple[str, Net | None, dict[str, Measure]]] = {
    "toy": ("toy", None, {"": one_reader, "-readers": eight_readers}),
    "560m": ("560m", None, {"": one_reader, "-readers": eight_readers, "-first": first_token}),
    "far": (
        "560m",
        FAR,
        {
            "": one_reader,
            "-1024": partial(one_reader, length=1024),
            "-readers": eight_readers,
            "-first": first_token,
        },
    ),
    "near": ("560m", NEAR, {"": one_reader}),
    "near-fast": ("560m", NEAR_FAST, {"": one_reader}),
}


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


async def run(names: Sequence[str], scale: Scale, results: Results, run_: Run) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        for group in names:
            model, link, measures = GROUPS[group]
            _say(f"{group} …")
            try:
                async with stand(model, link, Path(made)) as here:
                    for suffix, measure in measures.items():
                        started = time.monotonic()
                        results.put(await measure(here, f"{group}{suffix}", scale), run_)
                        _say(f"{group}{suffix}: {time.monotonic() - started:.0f} s")
            except (IdlebloomError, RuntimeError, ValueError) as error:  # others are of use all the same
                _say(f"{group}: {error}")


def main(argv: Sequence[str] | None = None) -> None:
    asked = Asked.of("petals", __doc__, GROUPS, argv)
    asked.measure("Petals beside us", NOTES, "petals", partial(run, asked.names, asked.scale(FULL, QUICK)))


if __name__ == "__main__":
    main()
