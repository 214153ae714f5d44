"""Where donors end up: ``python -m benchmarks.placement [--donors N …] [--seeds N] [--hours H]``."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.placement.optimum import bound
from benchmarks.placement.simulate import Outcome, Scenario, Swarm
from core.paths import code

HEAD = """# Placement

BLOOM-176B in NF4 over simulated donors with 8 to 24 GB cards and 20 to 1,000 Mbit/s, 5 % of them liars.
Throughput is what readers who share the work out as well as possible would get, divided by an upper bound
that no placement can exceed (all work of all cards, evenly over all layers); bars: median 0.90, worst 0.80.
Pairs: median, worst. *Settled*: before churn, *again*: 6 hours after. The bound is no optimum: a small swarm
may be unable to reach it. DHT bytes are not measured here.

Ten donors barely hold the model: where they cannot, nothing is carried. *Opened*: layers that a move left
without a donor.

| donors | swarms | settled | again | moved an hour | minutes to a choice | opened | verdict |
|---|---|---|---|---|---|---|---|
"""
MEDIAN, WORST = 0.90, 0.80


def part(found: tuple[float, float, list]) -> float:  # type: ignore[type-arg]
    return found[0] / bound(found[2]) if found[2] else 0.0


def row(donors: int, outcomes: Sequence[Outcome], hours: float) -> dict[str, object]:
    settled, again = [part(o.settled) for o in outcomes], [part(o.again) for o in outcomes]
    holes = [seconds / 60 for o in outcomes for seconds in o.chosen]
    return {
        "donors": donors,
        "swarms": len(outcomes),
        "settled": [round(statistics.median(settled), 3), round(min(settled), 3)],
        "again": [round(statistics.median(again), 3), round(min(again), 3)],
        "layers_moved_an_hour": round(sum(o.moved_layers for o in outcomes) / len(outcomes) / (hours + 6), 2),
        "holes": len(holes),
        "minutes_to_choose": [round(statistics.median(holes), 1), round(max(holes), 1)] if holes else None,
        "opened": sum(o.opened for o in outcomes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement")
    parser.add_argument("--donors", type=int, nargs="+", default=[30, 100, 1000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=code() / "benchmarks" / "results")
    given = parser.parse_args()
    rows = []
    for donors in given.donors:
        outcomes = [Swarm(Scenario(donors, seed, given.hours)).run() for seed in range(given.seeds)]
        rows.append(row(donors, outcomes, given.hours))
        write(rows, given.out)
        print(rows[-1], flush=True)


def write(rows: Sequence[dict[str, object]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"| {' | '.join(_cell(r[k]) for k in r if k != 'holes')} | {verdict(r)} |" for r in rows]
    (folder / "placement.md").write_text(HEAD + "\n".join(lines) + "\n", "utf-8")
    (folder / "placement.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n", "utf-8")


def verdict(row: dict[str, object]) -> str:
    median, worst = row["settled"]  # type: ignore[misc]
    missed = [name for name, of, bar in (("median", median, MEDIAN), ("worst", worst, WORST)) if of < bar]
    return f"{' and '.join(missed)} not met" if missed else "met"


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "no hole" if value is None else str(value)


if __name__ == "__main__":
    main()
