"""The page that sets all ratios side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.summary import AUTHORS, summary


def row(what: str, unit: str, median: float, **more: Any) -> dict[str, Any]:
    value = {"median": median, "low": median - 1, "high": median + 1, "count": 7}
    return {"what": what, "unit": unit, "value": value, "bar": None, "verdict": "", "beside": {}} | more


def test_ratios_and_the_peers_that_they_are_to(tmp_path: Path) -> None:
    """Those of the same run as they are, authors' own numbers divided; other rows are left out."""
    rows = [
        row("a, against Petals", "×", 2.5, bar="≥ 2", verdict="met"),
        row("b", "steps/s", 4.0, beside={AUTHORS: 2.0}),
        row("c, which is none", "s", 3.0),
    ]
    (tmp_path / "petals.json").write_text(json.dumps({"rows": rows}), encoding="utf-8")
    page = summary(tmp_path)
    assert (
        "| petals | a, against Petals | Petals, in the same run | 2.5 × | 1.5 to 3.5 | 7 | ≥ 2: met |" in page
    )
    assert "| petals | b | Petals, *authors* | 2 × | 1.5 to 2.5 | 7 |  |" in page
    assert "which is none" not in page
    assert "Not measured yet: loopback, wide_area" in page
