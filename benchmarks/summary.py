"""One table of what was measured beside others, from the committed results: each row a ratio to a peer.

    python -m benchmarks.summary [--results FOLDER]

Measures nothing: it reads the other benchmarks' JSON and writes ``summary.md`` beside it. A bar that a row is
judged by is told with its verdict; a peer that was not run here, but is told of by its authors, is marked so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.paths import code

Found = Mapping[str, Any]

TABLES = ("loopback", "wide_area", "petals", "offloading", "failures", "gpu")
AUTHORS = "Petals on BLOOM-176B (28.7 KB an activation), steps/s"
FOURTEEN = "Petals, its own 14 donors, steps/s"
PEERS = (
    ("against Petals", "Petals, in the same run"),
    ("against transformers.generate", "transformers whole in one process, in the same run"),
    ("transformers with all in memory", "transformers whole in one process, in the same run"),
    ("offloading to disk", "accelerate's offloading to disk, in the same run"),
    ("its time over that of ours", "Petals' own block, in the same run"),
    ("bitsandbytes", "bitsandbytes, in the same run"),
    ("against (", "the bound, from the same run"),
    ("speculation on against off", "ourselves without speculation"),
    ("in one piece", "ourselves without overlapping chunks"),
    ("a token against 1 reader's", "ourselves with one reader"),
    ("8 readers at once against 1", "ourselves with one reader"),
)
"""What a row's words say that it is compared with."""
PAGE = """# Beside others

Each row is a ratio that one of the other tables holds, with the peer that it is a ratio to; `python -m
benchmarks.summary` makes this page of their JSON. *Authors*: not run here; what a peer's authors measured on
BLOOM-176B and A100s, against ours around a small model whose computing is declared to take as long as theirs.

| table | what | peer | ratio | 95 % interval | n | bar |
|---|---|---|---|---|---|---|
{rows}

{missing}"""


@dataclass(frozen=True)
class Line:
    table: str
    what: str
    peer: str
    ratio: float
    low: float
    high: float
    count: int
    bar: str

    def __str__(self) -> str:
        between = f"{self.low:.3g} to {self.high:.3g}"
        cells = (self.table, self.what, self.peer, f"{self.ratio:.3g} ×", between, str(self.count), self.bar)
        return "| " + " | ".join(cells) + " |"


def lines(table: str, rows: list[Found]) -> Iterator[Line]:
    """The rows that are ratios to a peer, and those that have a peer's number beside them."""
    for row in rows:
        value = row["value"]
        low, middle, high, count = (value[key] for key in ("low", "median", "high", "count"))
        peer = next((name for words, name in PEERS if words in row["what"]), "")
        if row["unit"] == "×" and peer:
            bar = f"{row['bar']}: {row['verdict']}" if row["bar"] else ""
            yield Line(table, row["what"], peer, middle, low, high, count, bar)
        for beside in (AUTHORS, FOURTEEN):
            if theirs := row["beside"].get(beside):
                ratios = (number / theirs for number in (middle, low, high))
                yield Line(table, row["what"], "Petals, *authors*", *ratios, count, "")


def summary(folder: Path) -> str:
    """The page, of the results in ``folder``."""
    found, missing = [], []
    for table in TABLES:
        file = folder / f"{table}.json"
        if not file.exists():
            missing.append(table)
            continue
        found += lines(table, json.loads(file.read_text(encoding="utf-8"))["rows"])
    told = f"Not measured yet: {', '.join(missing)}.\n" if missing else ""
    return PAGE.format(rows="\n".join(map(str, found)), missing=told)


def main() -> None:
    words = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.summary", description=words)
    parser.add_argument("--results", type=Path, default=code() / "benchmarks" / "results", help="folder")
    folder = parser.parse_args().results
    page = summary(folder)
    (folder / "summary.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
