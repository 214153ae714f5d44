"""Where donors end up: ``python -m benchmarks.placement [--donors N …] [--seeds N] [--hours H]``."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.placement.optimum import bound, can_hold, speed
from benchmarks.placement.simulate import MOST_HOURS, Measured, Outcome, Scenario, Swarm, first_cards
from core.paths import code

HEAD = """# Placement

BLOOM-176B in NF4 over simulated donors with 8 to 24 GB cards and 20 to 1,000 Mbit/s. Of all, {liars:.0%}
lie: a third of those serve nothing of what they announce, the others claim 10 or 1,000 times their speed.
Each honest donor reads a few words every 20 minutes, every 5 while it has not met all, over whom it knows
least, as `core.node.trial` has it do. What that shows of the others it knows, and only that, by the functions
that Idlebloom itself uses (`core.routing.curious`, `seen`, `suspects` and `route`; `core.serving.levels`,
`choose` and `joint`). Above 64 donors nobody learns anything: there
claims are bounded only. Who decides has records a minute old; who goes has new ones, and has read a few
words over those on whom it counts. {runs}

*Settled*: all have come, nobody has chosen another place or come to one for an hour, and nobody fetches;
*again*: the same after {hours:g} hours in which donors go after 8 hours on average, half of them without a
word, and as many come; *meanwhile*: in those hours, measured every quarter of an hour, whatever was under
way. *Hours to rest*: until then, with that hour; a layer takes 33 minutes at 20 Mbit/s. *Opened*: layers of
a whole model, served by an honest donor, that a move left without one. A hole counts where the cards could
hold the model: minutes until somebody chose it. Pairs are median, worst. Bars, for *settled* and *again*:
median {median:.2f}, worst {worst:.2f}. No seed was used while the rule was made.

{rows}

What the numbers are parts of. Throughput is what readers who share the work out as well as possible would
get from the honest donors, exactly (a linear program); a boaster counts with its true speed. It is divided
by a bound that no placement can pass: no card does more than the work of all that it can hold, nor than it
is fast enough for. Where many donors share few layers the bound is loose, and the true part is higher than
is said. That what a card can *hold* counts is a choice: a fast card of little memory cannot be used up
while the others are few. So the plainer measure stands beside it: *of all speed* divides by the sum of the
speeds, as if any card could hold anything; it falls short of one where the swarm is small, whoever places
it. *Cannot hold*: in so many of the swarms drawn, and after so many of those that were simulated, the
honest cards could not hold the model however they were placed (exact: a search over how many of each kind
stand where). There is no optimum to compare with, and they count in no column; a swarm that could hold the
model and does not counts as 0. What the measure leaves out: delays between donors, and readers who choose
their routes badly.
"""
COLUMNS = (
    "donors",
    "swarms",
    "cannot hold",
    "settled",
    "again",
    "meanwhile",
    "of all speed, settled",
    "hours to rest",
    "layers moved an hour",
    "holes",
    "minutes to a choice",
    "opened",
    "verdict",
)
MEDIAN, WORST = 0.90, 0.80


@dataclass(frozen=True)
class Row:
    donors: int
    swarms: int
    cannot_hold: str
    settled: tuple[float, float]
    again: tuple[float, float]
    meanwhile: tuple[float, float]
    of_all_speed: tuple[float, float]
    hours_to_rest: tuple[float, float]
    layers_moved_an_hour: float
    holes: int
    minutes_to_choose: tuple[float, float]
    opened: int
    commit: str
    first_seed: int
    liars: float

    @property
    def verdict(self) -> str:
        """Not met: what falls short of its bar."""
        median, worst = min(self.settled[0], self.again[0]), min(self.settled[1], self.again[1])
        missed = [name for name, of, bar in (("median", median, MEDIAN), ("worst", worst, WORST)) if of < bar]
        missed += ["opened"] if self.opened else []
        # What was measured at the end of the time was on its way to somewhere else.
        missed += ["rest"] if self.hours_to_rest[1] >= MOST_HOURS else []
        return f"{' and '.join(missed)} not met" if missed else "met"

    @property
    def cells(self) -> str:
        unseen = ("commit", "first_seed", "liars")
        values = [value for name, value in asdict(self).items() if name not in unseen]
        shown = [", ".join(map(str, one)) if isinstance(one, tuple | list) else str(one) for one in values]
        return f"| {' | '.join([*shown, self.verdict])} |"


def part(found: Measured) -> float | None:
    """Of the optimum; ``None`` where there is none."""
    optimum = bound(found.cards)
    return found.throughput / optimum if optimum else None


def parts(found: Sequence[Measured]) -> list[float]:
    return [one for one in map(part, found) if one is not None]


def row(outcomes: Sequence[Outcome], scenario: Scenario, passed_over: int) -> Row:
    """Of swarms like ``scenario``, the first of them; so many others could not hold the model."""
    hours = scenario.churn_hours
    settled = parts([one.settled for one in outcomes])
    again = parts([one.again for one in outcomes])
    minutes = [seconds / 60 for one in outcomes for seconds in one.chosen]
    rests = [hours for one in outcomes for hours in one.hours_to_rest]
    return Row(
        scenario.donors,
        len(outcomes),
        f"{passed_over} of {passed_over + len(outcomes)}, {len(outcomes) - len(again)} of {len(outcomes)}",
        pair(settled, min),
        pair(again, min),
        pair(parts([found for one in outcomes for found in one.between]), min),
        pair([one.settled.throughput / speed(one.settled.cards) for one in outcomes], min),
        pair(rests, max, 1),
        round(sum(one.moved_layers / (hours + one.hours_to_rest[1]) for one in outcomes) / len(outcomes), 2),
        len(minutes),
        pair(minutes, max, 1),
        sum(one.opened for one in outcomes),
        commit(),
        scenario.seed,
        scenario.liars,
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
    parser.add_argument("--liars", type=float, default=0.05, help="the part of the donors that lie")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no swarm after so long, a size"
    )
    parser.add_argument("--out", type=Path, default=code() / "benchmarks" / "results")
    given = parser.parse_args()
    for donors in given.donors:
        first = Scenario(donors, given.first_seed, given.hours, given.liars)
        outcomes, passed_over = run(first, given.seeds, given.minutes * 60)
        write(row(outcomes, first, passed_over), given.out, given.hours)


def run(first: Scenario, swarms: int, seconds: float) -> tuple[list[Outcome], int]:
    """So many swarms that can hold the model, or as many as are begun within so many seconds; and how many
    that cannot were passed over."""
    outcomes: list[Outcome] = []
    passed_over, began = 0, time.monotonic()
    while not outcomes or (len(outcomes) < swarms and time.monotonic() - began < seconds):
        scenario = replace(first, seed=first.seed + len(outcomes) + passed_over)
        if can_hold(first_cards(scenario)):
            outcomes.append(Swarm(scenario).run())
        else:
            passed_over += 1
    return outcomes, passed_over


def write(new: Row, folder: Path, hours: float) -> None:
    """Beside the rows of other sizes, and of other parts of liars, that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "placement.json"
    before = json.loads(kept.read_text("utf-8"))["rows"] if kept.is_file() else []
    # Rows of an earlier form of this table say other things.
    rows = [Row(**one) for one in before if one.keys() == asdict(new).keys()]
    rows = [one for one in rows if (one.donors, one.liars) != (new.donors, new.liars)]
    rows = sorted([*rows, new], key=lambda one: (one.liars, one.donors))
    (folder / "placement.md").write_text(page(rows, hours), "utf-8")
    kept.write_text(json.dumps({"rows": [asdict(one) for one in rows]}, indent=1) + "\n", "utf-8")
    print(new.cells, flush=True)


def page(rows: Sequence[Row], hours: float) -> str:
    usual = min(one.liars for one in rows)
    runs = "; ".join(f"{one.donors} donors at {one.commit}, seeds from {one.first_seed}" for one in rows)
    tables = table([one for one in rows if one.liars == usual])
    for liars in sorted({one.liars for one in rows} - {usual}):
        tables += f"\n\nWith {liars:.0%} liars:\n\n" + table([one for one in rows if one.liars == liars])
    return HEAD.format(
        median=MEDIAN, worst=WORST, hours=hours, liars=usual, runs=f"The code: {runs}.", rows=tables
    )


def table(rows: Sequence[Row]) -> str:
    head = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
    return head + "\n".join(one.cells for one in rows)


if __name__ == "__main__":
    main()
