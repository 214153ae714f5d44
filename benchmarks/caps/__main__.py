"""Prints the table of caps, and writes it to benchmarks/results/caps.{md,json}. Needs root.

python -m benchmarks.caps [--seconds 30] [--mbit 2,10,50] [--out FOLDER]      (6 minutes)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from benchmarks.caps.measure import Direction, Held, measure

RESULTS = Path(__file__).parent.parent / "results"
OVER, SLOWER = 0.05, 0.10
HEAD = """# Caps on traffic

A donor's links, meter and p2pd on a host of an internet in user space (200 Mbit/s, 5 ms), sending to, or
taking from, a neighbour: an answer's steps of 4 KiB twenty times a second, and prompts in chunks of 256 KiB
as fast as they are let. What the capped host's interface carried, headers and all, against the cap; and the
answer's steps a second beside prompts, and without them before and after. Bars: at most 5 % above the cap;
the answer less than 10 % slower.

| direction | cap Mbit/s | carried | over the cap | steps/s alone | with prompts | slower | bars |
|---|---|---|---|---|---|---|---|
"""


def row(held: Held) -> str:
    met = "met" if held.over <= OVER and held.slower < SLOWER else "NOT met"
    return (
        f"| {held.direction} | {held.cap:g} | {held.carried:.2f} | {held.over:+.1%} | {held.alone:.1f} | "
        f"{held.under_load:.1f} | {held.slower:.1%} | {met} |"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--mbit", default="2,10,50")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found = []
    for direction in get_args(Direction):
        for cap in map(float, args.mbit.split(",")):
            with tempfile.TemporaryDirectory(prefix="caps-") as folder:
                held = await measure(Path(folder), direction, cap, args.seconds)
            print(row(held), flush=True)
            found.append(held)
    said = f"\n\nOver {args.seconds:g} s each; load of the system at the end {os.getloadavg()[0]:.1f}.\n"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "caps.md").write_text(HEAD + "\n".join(map(row, found)) + said, encoding="utf-8")
    (args.out / "caps.json").write_text(
        json.dumps([asdict(held) for held in found], indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    asyncio.run(main())
