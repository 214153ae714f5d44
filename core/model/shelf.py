"""The folder of fetched and quantized weights, held to a cap: what was used least recently goes first.

A file's modification time is when it was last used: ``touch`` sets it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import DiskError
from core.model.parts import journal_of
from core.paths import make_folder, words

SPARE = 1 << 30
"""Bytes of the disk that are left free for everything else."""


@dataclass(frozen=True)
class _Item:
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Shelf:
    """``cap``: bytes that weights may take below ``root``, None for no limit; ``spare``: bytes left free."""

    root: Path
    cap: int | None = None
    spare: int = SPARE

    def used(self) -> int:
        return sum(item.size for item in self._items())

    def touch(self, paths: Collection[Path]) -> None:
        """Say that these files are used now."""
        for path in paths:
            try:
                os.utime(path)
            except FileNotFoundError:
                pass  # it may be a part that a quantized one stands for

    def make_room(self, need: int, keep: Collection[Path] = ()) -> None:
        """Drop what was used least recently, except ``keep``, until ``need`` more bytes fit.

        DiskError, with nothing dropped, where they cannot fit.
        """
        make_folder(self.root)
        items = sorted(self._items(), key=lambda item: item.used)
        kept = {path.resolve() for path in keep}
        lack = need - self._room(sum(item.size for item in items))
        chosen: list[_Item] = []
        for item in items:
            if lack <= 0:
                break
            if item.path.resolve().with_suffix("") in kept or item.path.resolve() in kept:
                continue
            chosen.append(item)
            lack -= item.size
        if lack > 0:
            raise self._full(need)
        for item in chosen:
            self._drop(item.path)

    def _room(self, used: int) -> int:
        free = shutil.disk_usage(self.root).free - self.spare
        return free if self.cap is None else min(free, self.cap - used)

    def _items(self) -> Iterator[_Item]:
        """Weights, finished or partial; the small files beside them are not counted."""
        for pattern in ("*.safetensors", "*.safetensors.partial"):
            for path in self.root.rglob(pattern):
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
                yield _Item(path, found.st_size, found.st_mtime)

    def _drop(self, path: Path) -> None:
        whole = path.with_suffix("") if path.suffix == ".partial" else path
        try:
            path.unlink(missing_ok=True)
            journal_of(whole).unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(f"cannot remove {path}: {words(error)}", "Check its permissions.") from error

    def _full(self, need: int) -> DiskError:
        free = max(0, shutil.disk_usage(self.root).free - self.spare)
        if self.cap is not None and need > self.cap - self.used() and free >= need:
            return DiskError(
                f"{_gb(need)} more are needed and the cap for weights on this PC is {_gb(self.cap)}",
                "Raise the cap, or serve fewer layers.",
            )
        return DiskError(
            f"{_gb(need)} are needed and the disk of {self.root} has {_gb(free)} to give",
            "Make room on it, or serve fewer layers.",
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
