"""The run on a GPU, tried out on the CPU: its one call must not fail for silly reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as run
from benchmarks.gpu.scale import SCALE, TINY
from benchmarks.gpu.sections import SECTIONS, SERVED


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["parity", "decode", "loading", "offloading"])
def test_a_section_makes_rows(name: str, tmp_path: Path) -> None:
    """Each of another name, with something to read."""
    assert SCALE is TINY
    rows = list(SECTIONS[name].rows(tmp_path))
    names = [row.name for row in rows]
    assert names or name == "offloading"  # which needs accelerate
    assert len(set(names)) == len(names)
    assert all(row.what and row.value.median >= 0 for row in rows)


@pytest.mark.parametrize(
    "case",
    [
        (60, {}, ["files", *SECTIONS]),
        (60, {"decode": "ended with 1"}, ["files", *SECTIONS]),
        (60, {"files": "out of time"}, ["files"] * len(SERVED) + [n for n in SECTIONS if n not in SERVED]),
        (1.6, {}, ["parity", "loading", "readings", "beside", "offloading", "files", "online", "serving"]),
    ],
    ids=["all", "one fails", "no files", "little time"],
)
def test_what_cannot_be_done_is_left_out_and_said(
    case: tuple[float, dict[str, str], Sequence[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A section that fails does not end the others; one with too little time left is not begun."""
    minutes, ends, begun = case
    done: list[str] = []

    def ran(command: Sequence[str], seconds: float) -> str:
        name = "files" if command[0].endswith("files") else command[1]
        assert 0 < seconds <= 60 * minutes
        done.append(name)
        ended = ends.get(name, "done")
        if name == "files" and ended == "done":
            Path(command[1]).mkdir()
        return ended

    monkeypatch.setattr(run, "_run", ran)
    failed = run.main(["--minutes", str(minutes), "--out", str(tmp_path)])
    assert sorted(done) == sorted(begun)
    left_out = [name for name in SECTIONS if name not in done or name in ends]
    assert failed == len(left_out)
    words = " ".join(left_out) or "none"
    assert capsys.readouterr().out.endswith(f"failed or not begun: {words}\n")


def test_a_section_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that it started."""
    assert run._run(("this.is.no.module",), 20) == "ended with 1"
    assert run._run(("http.server", "0", "--bind", "127.0.0.1"), 1.0) == "out of time"
