from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.quality import FORMS, Quality, measure, save

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "quality.json"


@pytest.fixture(scope="module")
def rows() -> list[Quality]:
    torch.set_num_threads(1)
    return measure(torch.device("cpu"), limit=4)


def test_order_of_quality(rows: list[Quality]) -> None:
    """The float32 model agrees with itself; 8 bits are nearer to it than 4; all foretell most tokens."""
    by_form = {row.form: row for row in rows}
    assert list(by_form) == [form for form, _, _ in FORMS]
    assert by_form["float32, none"].logit_error == 0 and by_form["float32, none"].greedy == 1
    assert 0 < by_form["float32, int8"].logit_error < by_form["float32, nf4"].logit_error < 0.5
    assert all(row.greedy > 0.9 for row in rows)
    assert by_form["float32, nf4"].bits < 6 < by_form["float32, int8"].bits < 10


def test_rows_of_other_devices_stay(rows: list[Quality], tmp_path: Path) -> None:
    """Saved again, a device's rows are replaced and another's are kept."""
    other = Quality(**{**vars(rows[0]), "device": "another"})
    save([other], tmp_path)
    save(rows, tmp_path)
    save(rows, tmp_path)
    saved = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))["rows"]
    assert [row["device"] for row in saved] == ["another"] + ["cpu"] * len(FORMS)
    assert "| another |" in (tmp_path / "quality.md").read_text(encoding="utf-8")


def test_the_committed_table_is_whole() -> None:
    """The committed results hold every form on the CPU."""
    saved = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    assert {row["form"] for row in saved if row["device"] == "cpu"} == {form for form, _, _ in FORMS}
