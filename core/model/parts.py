"""A checkpoint kept in parts: a file a layer, so that a span has its own bytes on disk and no others.

A part is a safetensors file of whole tensors, byte for byte as in the checkpoint, behind a header of its
own. While it is fetched it is ``NAME.partial``, filled from front to back, beside a journal
``NAME.pieces``: one line of JSON a piece, ``[end, sha256]``, written when the piece itself is on the disk.
So whatever kills the program or the PC, at most the last piece is lost, and what is there can be checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import DiskError
from core.model.weights import Entry
from core.paths import words

PIECE = 4 << 20
"""Bytes between two entries of the journal: what a crash may cost."""

_BLOCK = re.compile(r"h\.(\d{1,5})\.")
_STORED = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}


def part_name(tensor: str) -> str:
    """The file that holds ``tensor``. The matrix that layer 0 and a tied head share is a part of its own."""
    plain = tensor.removeprefix("transformer.")
    block = _BLOCK.match(plain)
    if block:
        return f"part-h.{block[1]}.safetensors"
    known = ("word_embeddings.weight", "lm_head.weight", "word_embeddings_layernorm", "ln_f")
    stem = next((name for name in known if plain.startswith(name)), "others")
    return f"part-{stem.removesuffix('.weight')}.safetensors"


@dataclass(frozen=True)
class Run:
    """Consecutive bytes ``[begin, end)`` of one shard."""

    shard: str
    begin: int
    end: int


@dataclass(frozen=True)
class Part:
    """One part as it will lie on disk: ``header``, then the bytes of ``runs`` one after the other."""

    name: str
    header: bytes
    runs: tuple[Run, ...]

    @property
    def size(self) -> int:
        return len(self.header) + sum(run.end - run.begin for run in self.runs)

    def missing(self, have: int) -> Iterator[Run]:
        """What to fetch when the first ``have`` bytes of the file are there."""
        skip = max(0, have - len(self.header))
        for run in self.runs:
            length = run.end - run.begin
            if skip < length:
                yield Run(run.shard, run.begin + skip, run.end)
            skip = max(0, skip - length)


def plan_parts(entries: Mapping[str, Entry]) -> list[Part]:
    """The parts that hold the tensors ``entries``, by their stored names, ordered by where they lie."""
    groups: dict[str, list[tuple[Entry, str]]] = {}
    for name, entry in entries.items():
        groups.setdefault(part_name(name), []).append((entry, name))
    parts = []
    for name, members in groups.items():
        members.sort(key=lambda one: (one[0].file, one[0].begin, one[1]))
        parts.append(Part(name, _header(members), _runs([entry for entry, _ in members])))
    return sorted(parts, key=lambda part: [(run.shard, run.begin) for run in part.runs])


def _header(members: list[tuple[Entry, str]]) -> bytes:
    described: dict[str, Any] = {}
    at = 0
    for entry, name in members:
        length = entry.end - entry.begin
        stored = {"dtype": _STORED[str(entry.dtype)], "shape": list(entry.shape)}
        described[name] = stored | {"data_offsets": [at, at + length]}
        at += length
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _runs(entries: list[Entry]) -> tuple[Run, ...]:
    runs: list[Run] = []
    for entry in entries:
        if runs and (runs[-1].shard, runs[-1].end) == (entry.file, entry.begin):
            runs[-1] = Run(entry.file, runs[-1].begin, entry.end)
        elif entry.end > entry.begin:
            runs.append(Run(entry.file, entry.begin, entry.end))
    return tuple(runs)


class PartFile:
    """A part being filled. ``have`` bytes of it are there, from the front. Raises DiskError."""

    def __init__(self, folder: Path, part: Part) -> None:
        self.part = part
        self.path = folder / part.name
        self._draft = folder / f"{part.name}.partial"
        self._journal = journal_of(self.path)
        self.have = 0
        self._noted = 0
        self._hash = hashlib.sha256()

    @property
    def whole(self) -> bool:
        """Whether the part is there from before: a finished file of its size, with its journal."""
        try:
            return self.path.stat().st_size == self.part.size and self._journal.is_file()
        except OSError:
            return False

    def open(self) -> None:
        """Find what is there from before, check it, and drop what is not noted or not as noted."""
        with _in_words(self._draft):
            self._draft.touch(mode=0o600)
            good = _good_pieces(self._draft, self._journal, self.part)
            self.have = self._noted = good[-1][0] if good else 0
            os.truncate(self._draft, self.have)
            _write_durably(self._journal, "".join(_line(*piece) for piece in good))
            self._file = self._draft.open("ab", buffering=0)
            if not good:
                self.append(self.part.header)

    def append(self, data: bytes) -> bool:
        """Add bytes at the end; whether a piece is full and should be noted."""
        with _in_words(self._draft):
            view = memoryview(data)
            while view:
                written = self._file.write(view)
                self._hash.update(view[:written])
                self.have += written
                view = view[written:]
        return self.have - self._noted >= PIECE

    def note(self) -> None:
        """Make what is there survive a crash of the PC."""
        if self.have == self._noted:
            return
        with _in_words(self._draft):
            os.fsync(self._file.fileno())
            with self._journal.open("a", encoding="ascii") as journal:
                journal.write(_line(self.have, self._hash.hexdigest()))
                journal.flush()
                os.fsync(journal.fileno())
        self._noted, self._hash = self.have, hashlib.sha256()

    def close(self) -> None:
        self._file.close()

    def finish(self) -> None:
        """Give the whole part its name."""
        self.note()
        self.close()
        with _in_words(self.path):
            self._draft.replace(self.path)
            sync_folder(self.path.parent)


def journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.pieces")


def is_intact(path: Path) -> bool:
    """Whether a finished part still holds the bytes that were fetched. Reads all of it."""
    try:
        size = path.stat().st_size
    except OSError:
        return False
    good = _checked(path, _noted_pieces(journal_of(path)))
    return bool(good) and good[-1][0] == size


def remove(path: Path) -> None:
    """Remove a part, finished or not, and its journal."""
    for one in (path, path.with_name(f"{path.name}.partial"), journal_of(path)):
        one.unlink(missing_ok=True)


def _line(end: int, digest: str) -> str:
    return json.dumps([end, digest]) + "\n"


def _noted_pieces(journal: Path) -> list[tuple[int, str]]:
    """The journal's lines up to the first that is not whole."""
    pieces: list[tuple[int, str]] = []
    try:
        lines = journal.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeError):
        return []
    for line in lines:
        try:
            end, digest = json.loads(line)
            if end <= (pieces[-1][0] if pieces else 0):
                break
        except (ValueError, TypeError):
            break
        pieces.append((end, digest))
    return pieces


def _checked(path: Path, pieces: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The first of ``pieces`` whose bytes are in the file as noted."""
    good: list[tuple[int, str]] = []
    at = 0
    try:
        with path.open("rb") as file:
            for end, digest in pieces:
                if _digest(file, end - at) != digest:
                    break
                good.append((end, digest))
                at = end
    except OSError:
        pass  # what cannot be read is not there
    return good


def _digest(file: Any, count: int) -> str:
    digest = hashlib.sha256()
    while count > 0:
        data = file.read(min(count, 1 << 20))
        if not data:
            return ""
        digest.update(data)
        count -= len(data)
    return digest.hexdigest()


def _good_pieces(draft: Path, journal: Path, part: Part) -> list[tuple[int, str]]:
    with draft.open("rb") as file:
        if file.read(len(part.header)) != part.header:  # laid out otherwise, or nothing there
            return []
    pieces = [piece for piece in _noted_pieces(journal) if piece[0] <= part.size]
    return _checked(draft, pieces)


def _write_durably(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.new")
    with draft.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _in_words:  # noqa: N801 - reads as a word: with _in_words(path)
    """Turns the system's errors on a file into DiskError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, DiskError):
            raise disk_error(self._path, error) from error


def disk_error(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"cannot write {path}: {words(error)}",
        "Make room on that disk; what was fetched so far is kept.",
    )
