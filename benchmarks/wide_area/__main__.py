"""The wide area: donors and client on hosts of their own, an internet in user space between them.

    python -m benchmarks.wide_area [--quick] [--only NAME …] [--pairs N] [--minutes M] [--out DIR]

Needs root. ``--only`` measures some rows anew and leaves the others. ``--quick`` is a smoke test: a few
samples, written nowhere unless ``--out`` says where.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.command import Asked
from benchmarks.measure import Results, Row, Run, in_time
from benchmarks.wide_area import emulated, first, real
from benchmarks.wide_area.prompt import long_prompt
from benchmarks.wide_area.proposals import speculation
from benchmarks.wide_area.stand import FAR, FULL, NEAR, NEAR_FAST, QUICK, Bench, Scale
from core.errors import IdlebloomError

NOTES = """\
Every donor is a worker process, and the client this process, on a host of its own: a network namespace with
one device. One process (`benchmarks/internet/router.py`) carries the packets between hosts and gives each its
rates, delay and queue; `python -m benchmarks.internet` measures it beside what it was told. Every host has
the rate that the row names, both ways; the delay is one way between any two hosts. Packets are of 1,500
bytes, at 1 Gbit/s of 9,000. TCP is CUBIC where the kernel lets a namespace choose it, else BBR, as on the
AMD machine of these runs, first window and slow start after idleness
included. Greedy, one thread a process, speculation off unless the row is about it. Steps are tokens after
the first; a step's time is the mean of an answer's, and a row's value the median over answers.
*Chain alone* is the same engine with all layers in one process, without a network, in the same rounds; the
*bound* is that and one delay a stage. *emulated*: around a small real model, a batch takes
max(step, row × rows) + step / 100 × (readers - 1) seconds, the same for every donor of a row. 560m is
BLOOM-560m's shape with a vocabulary of 32,768 and random weights, long 12 blocks of hidden 512, thin three
such blocks: 2 KiB an activation all of them, where BLOOM-176B has 28.7 KB, as wide has.
The row of the first token is emulated around thin since the evening of 2026-11-27; before, around long, whose
own computing of 1,024 rows could take longer than what is declared, in one piece more than in chunks. One set
of donors gets the prompt in chunks, a second the whole in one piece, in turns; the opening of the session is
part of the time to the first token."""


ENDING_SECONDS = 60.0
"""For which a row may go on beyond its time, to end its donors, or to begin them."""
Measure = Callable[[Bench, str], Coroutine[Any, Any, list[Row]]]

BENCHMARKS: dict[str, Measure] = {
    "ring": real.ring,
    "first-token": first.emulated,
    "first-token-560m": first.real,
    "long-prompt-4": long_prompt(NEAR, capped=False),
    "long-prompt-100": long_prompt(FAR, capped=False),
    "long-prompt-4-half": long_prompt(NEAR, capped=True),
    "long-prompt-100-half": long_prompt(FAR, capped=True),
    "speculation": speculation,
    "12-100-100": emulated.at_once(12, FAR),
    "12-1000-4": emulated.at_once(12, NEAR_FAST),
    "12-100-4": emulated.at_once(12, NEAR),
    "12-100-100-positions": emulated.positions(12, FAR),
    "12-1000-4-positions": emulated.positions(12, NEAR_FAST),
    "12-100-4-positions": emulated.positions(12, NEAR),
    "14-unequal": emulated.fourteen(nat=False),
    "14-nat": emulated.fourteen(nat=True),
    "idle-links": emulated.idle_links,
    "3-emulated-100-100": emulated.at_once(3, FAR),
    "3-1000-4": real.three(NEAR_FAST),
    "3-100-4": real.three(NEAR),
    "3-100-100": real.three(FAR),
}


async def run(names: Sequence[str], scale: Scale, results: Results, run_: Run) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            started = time.monotonic()
            bench = Bench(scale, Path(folder), Random(0), started + scale.seconds)
            try:
                rows = await in_time(BENCHMARKS[name](bench, name), bench.until + ENDING_SECONDS)
                results.put(rows or [], run_)
                if not rows:
                    print(f"{name}: there was no time for a single sample", file=sys.stderr, flush=True)
            except (IdlebloomError, RuntimeError, ValueError) as error:  # other rows are of use all the same
                print(f"{name}: {error}", file=sys.stderr, flush=True)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    asked = Asked.of("wide_area", __doc__, BENCHMARKS, argv)
    asked.measure("Wide area", NOTES, "wide_area", partial(run, asked.names, asked.scale(FULL, QUICK)))


if __name__ == "__main__":
    main()
