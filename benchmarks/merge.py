"""Puts results that were measured elsewhere, or by several processes at once, into one table each.

    python -m benchmarks.merge FOLDER [FOLDER …] [--into benchmarks/results]

Rows of ``FOLDER/*.json`` take the place of rows of their names; each keeps the run it comes from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Results


def merge(folders: Sequence[Path], into: Path) -> list[str]:
    """The names of the tables that were written."""
    stems = []
    for file in sorted(file for folder in folders for file in folder.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        if not {"title", "notes", "rows"} <= set(found):
            continue  # other benchmarks have forms of their own
        Results(found["title"], found["notes"], into, file.stem).take(found["rows"])
        stems.append(file.stem)
    return stems


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merge", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    for stem in merge(chosen.folders, chosen.into):
        print(chosen.into / f"{stem}.md")


if __name__ == "__main__":
    main()
