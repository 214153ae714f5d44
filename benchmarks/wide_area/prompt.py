"""Rows of a long prompt whose activations are as large as BLOOM-176B's, on links that bind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from benchmarks.internet.network import MTU
from benchmarks.measure import Contender, Interval, Row, rounds
from benchmarks.swarm_of_workers import split
from benchmarks.wide_area.paced import Pace
from benchmarks.wide_area.stand import DONORS, Bench, Net, Stand, called, layers_of, median, places_for, stand
from core.meter import OVERHEAD
from core.ring.client import CHUNK
from core.serving.metering import AUTO_PART
from core.swarm.frames import Dtype

SHAPE = "hollow"
LONG, TOKENS = 2040, 2
GPU = Pace(0.007, 0.0003, 0.0001, hollow=True)
"""Eight blocks in NF4 on a H100."""
MEASURED_SECONDS = 45.0
"""In which a record tells what its donor has measured: it is announced every 30 s."""
PAUSE_SECONDS = 1.0
WAYS = 6
"""One way each: the opening there and back, the client to the entry, two links, the tail to the client."""


@dataclass(frozen=True)
class Cap:
    """On what donors send."""

    mbit: float | None
    """``None``: the default, a part of what was measured. One that holds nothing up lets that be measured."""
    called: str

    def part_of(self, link: Net) -> float:
        """Bytes a second that a prompt may use, headers included."""
        return link.mbit * 125e3 * (AUTO_PART if self.mbit is None else 1)


def long_prompt(link: Net, *, capped: bool) -> Callable[[Bench, str], Coroutine[Any, Any, list[Row]]]:
    """The prompt as donors and planner have it, beside the same in bfloat16, in turns. ``capped``: by half of
    what was measured, as donors are unless their owners say otherwise."""
    cap = Cap(None, "by default half of the upload") if capped else Cap(10 * link.mbit, "the whole upload")

    async def measure(bench: Bench, name: str) -> list[Row]:
        places = places_for(split(await layers_of(bench, SHAPE), DONORS), GPU)
        more = {} if cap.mbit is None else {"upload_mbit": cap.mbit}
        async with stand(bench, link, SHAPE, "bfloat16", places, more=more) as here:
            first = (await here.swarm.answer(bench.prompts(1, LONG, here.vocab)[0], TOKENS)).first
            if not await _told(here):
                raise RuntimeError("the donors' records do not tell what they have measured")
            wide = here.swarm.view([place.host for place in places])
            wide.may_narrow = False
            contenders: dict[str, Contender] = {"ours": here.swarm, "wide": wide}
            prompts = bench.prompts(2 * bench.scale.few + 1, LONG, here.vocab)
            timings = await rounds(contenders, prompts, TOKENS, bench.part(1), bench.until)
            rates = [record.upload_rate for record in here.swarm.records[: DONORS - 1]]
        if not timings["ours"]:
            return []
        ours = [timing.first for timing in timings["ours"]]
        least = {kind: _least(link, cap, kind, here.swarm.config.hidden) for kind in ("int8", "bfloat16")}
        return [
            Row(
                name,
                f"{called(SHAPE, GPU)}, {DONORS} donors, {link}, {cap.called}: first token of a "
                f"{LONG:,}-token prompt, 28.7 KB a token, in int8 blocks where the planner says so",
                "s",
                Interval.of(ours),
                1,
                "bfloat16",
                None,
                {
                    "least, s": least["int8"],
                    "of it": median(ours) / least["int8"],
                    "in bfloat16, s": median(timing.first for timing in timings["wide"]),
                    "least, in bfloat16, s": least["bfloat16"],
                    "before anything was measured, s": first,
                    "measured, MB/s, lowest": min(rates) / 1e6,
                },
                "least: the bytes of one link and of one chunk on the other at what may be used of them, six "
                "delays, a chunk's computing at each donor",
            )
        ]

    return measure


async def _told(here: Stand) -> bool:
    """Whether records tell, in the end, what their donors have measured."""
    loop = asyncio.get_running_loop()
    until = loop.time() + MEASURED_SECONDS
    while loop.time() < until:
        if all(record.upload_rate for record in (await here.swarm.look())[: DONORS - 1]):
            return True
        await asyncio.sleep(PAUSE_SECONDS)
    return False


def _least(link: Net, cap: Cap, kind: str, hidden: int) -> float:
    row = (Dtype.INT8 if kind == "int8" else Dtype.BFLOAT16).row_bytes(hidden)
    assert link.mtu == MTU
    sending = row * (LONG + CHUNK) * OVERHEAD / cap.part_of(link)
    return sending + WAYS * link.delay_ms / 1e3 + DONORS * CHUNK * GPU.row
