"""The command line of a benchmark that has rows by name, and its way to a table."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmarks.measure import Results, Run
from core.paths import code
from core.swarm.loop import new_event_loop


class Scale(Protocol):
    """How much is measured: a dataclass with these fields and others."""

    @property
    def pairs(self) -> int: ...

    @property
    def seconds(self) -> float: ...


S = TypeVar("S", bound=Scale)


@dataclass(frozen=True)
class Asked:
    names: tuple[str, ...]
    """In the order of the benchmark's own."""
    quick: bool
    pairs: int | None
    minutes: float | None
    out: Path | None

    @classmethod
    def of(cls, prog: str, words: str | None, names: Iterable[str], argv: Sequence[str] | None) -> Asked:
        """``words``: the module's, whose first paragraph says what is measured."""
        names = tuple(names)
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{prog}", description=(words or "").partition("\n\n")[0]
        )
        parser.add_argument("--quick", action="store_true", help="a few samples of everything")
        parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
        parser.add_argument("--pairs", type=int, help="rounds of the rows that have a bar")
        parser.add_argument("--minutes", type=float, help="after so long a row ends, with what it has")
        parser.add_argument("--out", type=Path, help="folder of the results (default: benchmarks/results)")
        given = parser.parse_args(argv)
        chosen = tuple(name for name in names if not given.only or name in given.only)
        return cls(chosen, given.quick, given.pairs, given.minutes, given.out)

    def scale(self, full: S, quick: S) -> S:
        scale: Any = quick if self.quick else full
        if self.pairs:
            scale = replace(scale, pairs=self.pairs)
        if self.minutes:
            scale = replace(scale, seconds=60 * self.minutes)
        found: S = scale
        return found

    def measure(
        self, title: str, notes: str, file: str, run: Callable[[Results, Run], Coroutine[Any, Any, None]]
    ) -> None:
        """``run`` puts rows into the results, which are written as they come, unless it was a quick look
        without a folder of its own."""
        folder = self.out or (None if self.quick else code() / "benchmarks" / "results")
        results = Results(title, notes, folder, file)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run(results, Run.here(quick=self.quick)))
        print(results.markdown())
