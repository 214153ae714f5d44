"""Where donors end up: ``python -m benchmarks.placement [--donors N …] [--seeds N] [--hours H]``."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.placement.optimum import bound
from benchmarks.placement.simulate import Measured, Outcome, Scenario, Swarm
from core.paths import code

HEAD = """# Placement

BLOOM-176B in NF4 over simulated donors with 8 to 24 GB cards and 20 to 1,000 Mbit/s, 5 % of them liars, who
are found out by those who read through them after 10 minutes on average. Idlebloom does so with those that
serve nothing; claims of speed it bounds, and does not yet compare with what was seen.
Throughput is what readers who share the work out as well as
possible would get, exactly, divided by a bound on the optimum: no card does more than
the work of all that it can hold, or than it is fast enough for. Bars: median {median:.2f}, worst {worst:.2f}.
Pairs are median, worst.

*Settled*: all have come, nobody has chosen another place for an hour, and all serve what they fetched;
*again*: the same after {hours:g} hours in which donors go after 8 hours on average, half of them without a
word, and as many come. *Hours to rest*: until then, with that hour; a layer takes 33 minutes at 20 Mbit/s.
*Cannot hold*: in so many of all swarms, before and after, the cards that were there could not hold the model
however they were placed (exact): their optimum is nothing, and they are not counted. *Opened*: layers of a
whole model that a move left without a donor. A hole counts where the cards could hold the model: minutes
until somebody chose it. No seed was used while the rule was made.

{runs}

| donors | swarms | cannot hold | settled | again | hours to rest | layers moved an hour | holes | {tail} |
|---|---|---|---|---|---|---|---|---|---|---|
"""
TAIL = "minutes to a choice | opened | verdict"
MEDIAN, WORST = 0.90, 0.80


@dataclass(frozen=True)
class Row:
    donors: int
    swarms: int
    cannot_hold: str
    settled: tuple[float, float]
    again: tuple[float, float]
    hours_to_rest: tuple[float, float]
    layers_moved_an_hour: float
    holes: int
    minutes_to_choose: tuple[float, float]
    opened: int
    commit: str
    first_seed: int

    @property
    def verdict(self) -> str:
        median, worst = min(self.settled[0], self.again[0]), min(self.settled[1], self.again[1])
        missed = [name for name, of, bar in (("median", median, MEDIAN), ("worst", worst, WORST)) if of < bar]
        return f"{' and '.join(missed)} not met" if missed else "met"

    @property
    def cells(self) -> str:
        values = [value for name, value in asdict(self).items() if name not in ("commit", "first_seed")]
        shown = [", ".join(map(str, one)) if isinstance(one, tuple | list) else str(one) for one in values]
        return f"| {' | '.join([*shown, self.verdict])} |"


def part(found: Measured) -> float | None:
    """Of the optimum; ``None`` where there is none."""
    optimum = bound(found.cards)
    return found.throughput / optimum if optimum else None


def row(outcomes: Sequence[Outcome], donors: int, hours: float, first_seed: int) -> Row:
    settled = [found for one in outcomes if (found := part(one.settled)) is not None]
    again = [found for one in outcomes if (found := part(one.again)) is not None]
    minutes = [seconds / 60 for one in outcomes for seconds in one.chosen]
    rests = [hours for one in outcomes for hours in one.hours_to_rest]
    return Row(
        donors,
        len(outcomes),
        f"{len(outcomes) - len(settled)}, {len(outcomes) - len(again)}",
        pair(settled, min),
        pair(again, min),
        pair(rests, max, 1),
        round(sum(one.moved_layers / (hours + one.hours_to_rest[1]) for one in outcomes) / len(outcomes), 2),
        len(minutes),
        pair(minutes, max, 1),
        sum(one.opened for one in outcomes),
        commit(),
        first_seed,
    )


def pair(values: Sequence[float], worst: object, digits: int = 3) -> tuple[float, float]:
    if not values:
        return 0.0, 0.0
    return round(statistics.median(values), digits), round(
        max(values) if worst is max else min(values), digits
    )


def commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=code(), capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement")
    parser.add_argument("--donors", type=int, nargs="+", default=[10, 30, 100, 1000, 10_000])
    parser.add_argument("--seeds", type=int, default=5, help="swarms of each size that can hold the model")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=code() / "benchmarks" / "results")
    given = parser.parse_args()
    for donors in given.donors:
        outcomes: list[Outcome] = []
        seed = given.first_seed
        while sum(part(one.settled) is not None for one in outcomes) < given.seeds:
            outcomes.append(Swarm(Scenario(donors, seed, given.hours)).run())
            seed += 1
        write(row(outcomes, donors, given.hours, given.first_seed), given.out, given.hours)


def write(new: Row, folder: Path, hours: float) -> None:
    """Beside the rows of other sizes that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "placement.json"
    before = json.loads(kept.read_text("utf-8"))["rows"] if kept.is_file() else []
    rows = [Row(**one) for one in before if one["donors"] != new.donors]
    rows = sorted([*rows, new], key=lambda one: one.donors)
    runs = "; ".join(f"{one.donors} donors at {one.commit}, seeds from {one.first_seed}" for one in rows)
    head = HEAD.format(median=MEDIAN, worst=WORST, hours=hours, runs=f"The code: {runs}.", tail=TAIL)
    (folder / "placement.md").write_text(head + "\n".join(one.cells for one in rows) + "\n", "utf-8")
    kept.write_text(json.dumps({"rows": [asdict(one) for one in rows]}, indent=1) + "\n", "utf-8")
    print(new.cells, flush=True)


if __name__ == "__main__":
    main()
