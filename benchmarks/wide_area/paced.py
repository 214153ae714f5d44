"""A worker whose engine takes a declared time: what a benchmark emulates where this machine cannot compute.

    python -m benchmarks.wide_area.paced STEP ROW SESSION ROWS HOLLOW [the worker's own arguments]

A batch of n rows of s sessions takes max(STEP, ROW × n) + SESSION × (s - 1) seconds, and no less than the
real, small model needs: reading the weights binds a few rows, arithmetic binds many. A batch takes at most
ROWS rows of prompts. HOLLOW is 1 where blocks shall not be loaded: they give what they got.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

import core.model.span
import core.serving.donor
from core.model.attention import Attention
from core.serving import worker
from core.serving.engine import PREFILL_ROWS, Engine
from core.serving.jobs import Done, Job


@dataclass(frozen=True)
class Pace:
    """Seconds."""

    step: float
    row: float
    session: float
    rows: int = PREFILL_ROWS
    hollow: bool = False

    def seconds(self, rows: int, sessions: int) -> float:
        return max(self.step, self.row * rows) + self.session * (sessions - 1)

    def words(self) -> tuple[str, ...]:
        return str(self.step), str(self.row), str(self.session), str(self.rows), str(int(self.hollow))


class PacedEngine(Engine):
    pace: ClassVar[Pace]

    def kick(self) -> None:
        self.prefill_rows = self.pace.rows
        super().kick()

    def _is_short(self, jobs: Sequence[Job]) -> bool:
        return False

    def _run(self, jobs: Sequence[Job]) -> list[Done]:
        until = time.perf_counter() + self.pace.seconds(sum(job.step.count for job in jobs), len(jobs))
        results = super()._run(jobs)
        time.sleep(max(0.0, until - time.perf_counter()))
        return results


class Hollow:
    """Stands where a block does."""

    recordable = False
    linears = ()

    def __call__(self, hidden: Tensor, _cache: Tensor, _how: Attention) -> Tensor:
        return hidden


def main() -> None:
    step, row, session, rows, hollow = sys.argv[1:6]
    del sys.argv[1:6]
    PacedEngine.pace = Pace(float(step), float(row), float(session), int(rows))
    if int(hollow):
        core.model.span.load_block = lambda *_: Hollow()  # type: ignore[assignment]
    core.serving.donor.Engine = PacedEngine  # type: ignore[attr-defined]
    worker.main()


if __name__ == "__main__":
    main()
