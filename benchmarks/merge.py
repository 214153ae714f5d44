"""Puts results that were measured elsewhere, or by several processes at once, into one table each.

    python -m benchmarks.merge FOLDER [FOLDER …] [--into benchmarks/results]

Rows of ``FOLDER/*.json`` take the place of rows of their names; each keeps the run it comes from. Rows of one
name and meaning in several of the folders were measured side by side: their samples become one row's.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.measure import Bar, Interval, Result, Results, verdict


def merge(folders: Sequence[Path], into: Path) -> list[str]:
    """The names of the tables that were written."""
    found: dict[str, list[Result]] = {}
    titles: dict[str, tuple[str, str]] = {}
    for file in sorted(file for folder in folders for file in folder.glob("*.json")):
        held = json.loads(file.read_text(encoding="utf-8"))
        if {"title", "notes", "rows"} <= set(held):  # other benchmarks have forms of their own
            found.setdefault(file.stem, []).extend(held["rows"])
            titles[file.stem] = (held["title"], held["notes"])
    for stem, rows in found.items():
        together: dict[tuple[str, str], list[Result]] = {}
        for row in rows:
            together.setdefault((row["name"], row["what"]), []).append(row)
        results = Results(*titles[stem], into, stem)
        results.take([pooled(same) for same in together.values()])
    return list(found)


def pooled(rows: Sequence[Result]) -> Result:
    """One row of the samples of all; what stands beside is the mean, what is said of bounds the first's."""
    if len(rows) == 1:
        return rows[0]
    value = Interval.of(sample for row in rows for sample in row["value"]["values"])
    beside = {
        name: statistics.fmean(row["beside"][name] for row in rows if name in row["beside"])
        for name in rows[0]["beside"]
    }
    limit = Bar.read(rows[0]["bar"]) if rows[0]["bar"] else None
    return {**rows[0], "value": asdict(value), "beside": beside, "verdict": verdict(limit, value)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    for stem in merge(chosen.folders, chosen.into):
        print(chosen.into / f"{stem}.md")


if __name__ == "__main__":
    main()
