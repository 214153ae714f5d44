"""Rows that were measured side by side become one table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Bar, Interval, Results, Row, Run
from benchmarks.merge import merge

RUN = Run("a processor", 2, 24.0, "Linux", {"python": "3.11"}, "2026-01-01 00:00 UTC", 0.1, quick=False)
ROW = Row("speed", "ours against theirs", "×", Interval.of([1.0, 1.2]), 1, "float32", Bar(1.1), {"ms": 2.0})


def test_samples_of_the_same_row_are_judged_together(tmp_path: Path) -> None:
    """Two processes' samples make one interval, judged by the same bar; other rows stay as they were."""
    folders = [tmp_path / "one", tmp_path / "two"]
    other = replace(ROW, value=Interval.of([1.3, 1.4]), beside={"ms": 4.0})
    for folder, row in zip(folders, (ROW, other), strict=True):
        Results("Title", "Notes.", folder, "table").put([row], RUN)
    Results("Title", "Notes.", folders[1], "table").put([replace(ROW, name="alone", what="alone")], RUN)
    assert merge(folders, tmp_path / "all") == ["table"]
    rows = json.loads((tmp_path / "all" / "table.json").read_text("utf-8"))["rows"]
    assert [(row["name"], row["value"]["count"], row["verdict"]) for row in rows] == [
        ("speed", 4, "not met (the interval holds the bar)"),
        ("alone", 2, "not met (the interval holds the bar)"),
    ]
    assert rows[0]["value"]["values"] == [1.0, 1.2, 1.3, 1.4]
    assert rows[0]["beside"] == {"ms": 3.0}
    assert (
        "| ours against theirs | 1.25 × | 1.00 to 1.40 | 4 |" in (tmp_path / "all" / "table.md").read_text()
    )


def test_what_was_there_stays_unless_measured_anew(tmp_path: Path) -> None:
    """Only rows of the same name give way."""
    kept = replace(ROW, name="kept", what="kept")
    Results("Title", "Notes.", tmp_path / "all", "table").put([kept, ROW], RUN)
    Results("Title", "Notes.", tmp_path / "new", "table").put([replace(ROW, unit="s")], RUN)
    merge([tmp_path / "new"], tmp_path / "all")
    rows = json.loads((tmp_path / "all" / "table.json").read_text("utf-8"))["rows"]
    assert [(row["name"], row["unit"]) for row in rows] == [("kept", "×"), ("speed", "s")]
