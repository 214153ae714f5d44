"""Where this PC keeps layers: fetched ones, and what was quantized from them.

The folder is ``data_dir``, or the cache folder. Below it ``weights`` has a folder a model and commit
(``core.model.fetch``) and ``quantized`` (``core.model.store``), held together to ``disk_gb``. Where the
layers were last is remembered, so that a folder chosen while nothing ran is moved into as well.

For a face that shows what is there: ``Storage.stored`` lists it with sizes, ``Storage.delete`` removes one
entry of that list by its ``name``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core import json_file
from core.errors import DiskError, UserError
from core.model.hub import Source
from core.model.shelf import SPARE, Shelf
from core.paths import ADVICE, Paths, make_folder, words
from core.settings import Settings
from core.words import size

WEIGHTS = "weights"
QUANTIZED = "quantized"
FETCHED = "fetched"
ANOTHER_FOLDER = "Choose another folder: idlebloom settings set data_dir FOLDER"
_COMMIT = 12
"""Characters of a commit that are enough to know it by."""


@dataclass(frozen=True)
class Stored:
    """Layers of one model in one form: ``kind`` is ``fetched``, ``nf4`` or ``int8``. ``size`` is in bytes."""

    model: str
    revision: str
    kind: str
    parts: int
    """How many files: about one a layer."""
    size: int
    used_at: float
    """When any of them was last used, in Unix time."""
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What ``delete`` knows it by: ``bigscience/bloomz-560m@0123456789ab/nf4``."""
        return f"{self.model}@{self.revision[:_COMMIT]}/{self.kind}"


@dataclass(frozen=True)
class Storage:
    """The layers on this PC. ``cap`` in bytes."""

    root: Path
    cap: int
    memory: Path
    """The file that says where the layers are."""
    advice: str = ADVICE
    """Where another folder is chosen."""

    @classmethod
    def of(cls, settings: Settings, paths: Paths) -> Storage:
        cap, memory = int(settings.disk_gb * 1e9), paths.state / "layers.json"
        if settings.data_dir:
            return cls(Path(settings.data_dir), cap, memory, ANOTHER_FOLDER)
        return cls(paths.cache, cap, memory)

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.root / WEIGHTS, self.cap)

    @property
    def quantized(self) -> Path:
        return self.root / WEIGHTS / QUANTIZED

    def folder_of(self, folder: Path) -> Path:
        """Where a fetched model's ``folder`` is, wherever it was."""
        return self.shelf.root / folder.parent.name / folder.name

    def folder_for(self, what: Path | Source) -> Path | None:
        """The folder of the model that is chosen; ``None`` for one that the hub was not asked for yet."""
        if isinstance(what, Path):
            return what
        home = self.shelf.root / what.model_id.replace("/", "--")
        with suppress(DiskError):
            folder = home / str(json_file.read(home / "refs.json").get(what.revision, what.revision))
            if (folder / "config.json").is_file():
                return folder
        return None

    def room(self) -> int:
        """Bytes that layers may take in all, if everything unused made way. Reads the disk."""
        folder = self.root
        while not folder.exists():
            folder = folder.parent
        return max(0, min(self.cap, shutil.disk_usage(folder).free - SPARE + self.shelf.used()))

    def trim(self) -> None:
        """Drop what was used least recently until the rest is within the cap."""
        if self.shelf.root.is_dir():
            over = self.shelf.used() - self.cap
            if over > 0:
                self.shelf.make_room(0)

    # What is there

    def stored(self) -> tuple[Stored, ...]:
        """What is kept, the last used first."""
        found = [*self._fetched(), *self._quantized()]
        return tuple(sorted(found, key=lambda one: -one.used_at))

    def delete(self, name: str) -> Stored:
        """Remove one entry of ``stored`` by its name. Layers that are being served stay in use until the
        worker ends. Raises ``UserError`` where there is none of that name, ``DiskError``."""
        known = {one.name: one for one in self.stored()}
        chosen = known.get(name)
        if chosen is None:
            there = f"There are: {', '.join(known)}." if known else "Nothing is kept."
            raise UserError(f"no layers are kept as “{name}”", there)
        try:
            for file in chosen.files:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(f"cannot remove {file}: {words(error)}", "Check its permissions.") from error
        return chosen

    def _fetched(self) -> Iterator[Stored]:
        for folder in _folders(self.root / WEIGHTS, depth=2):
            if folder.parent.name == QUANTIZED:
                continue
            weights = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.partial")]
            if weights:
                pieces = list(folder.glob("*.pieces"))
                yield _entry((folder.parent.name, folder.name, FETCHED), weights, pieces)

    def _quantized(self) -> Iterator[Stored]:
        for folder in _folders(self.quantized, depth=3):
            files = list(folder.glob("*.safetensors"))
            if files:
                kind = folder.name.partition("-")[0]
                yield _entry((folder.parent.parent.name, folder.parent.name, kind), files)

    # Moving

    def settle(self) -> None:
        """Move here what is still where layers were kept before. Raises ``DiskError``; what was moved by
        then stays, and the rest is moved the next time."""
        before = json_file.read(self.memory).get("root")
        if isinstance(before, str) and Path(before) != self.root and (Path(before) / WEIGHTS).is_dir():
            self.check_room(Path(before))
            _move(Path(before) / WEIGHTS, self.root / WEIGHTS)
        if before != str(self.root):
            json_file.write(self.memory, {"root": str(self.root)})

    def check_room(self, before: Path) -> None:
        """Raises ``DiskError`` unless this folder can be written to and has room for what is in
        ``before``."""
        make_folder(self.root, self.advice)
        if not (before / WEIGHTS).is_dir() or os.stat(before).st_dev == os.stat(self.root).st_dev:
            return
        need, free = _size(before / WEIGHTS), shutil.disk_usage(self.root).free
        if need > free:
            raise DiskError(
                f"the layers in {before} take {size(need)} and the disk of {self.root} has {size(free)} free",
                "Choose a larger disk, or remove some: idlebloom model",
            )


def _entry(named: tuple[str, str, str], weights: list[Path], beside: Sequence[Path] = ()) -> Stored:
    model, revision, kind = named
    found = [path.stat() for path in weights]
    return Stored(
        model.replace("--", "/", 1),
        revision,
        kind,
        len({path.name.removesuffix(".partial") for path in weights}),
        sum(one.st_size for one in found),
        max(one.st_mtime for one in found),
        (*weights, *beside),
    )


def _folders(root: Path, depth: int) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in sorted(root.glob("/".join("*" * depth))) if path.is_dir())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _move(source: Path, target: Path) -> None:
    """Every file to the same place below ``target``; one that is there already stays as it is."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            goal = target / path.relative_to(source)
            make_folder(goal.parent)
            try:
                if not goal.exists():
                    _move_file(path, goal)
                path.unlink(missing_ok=True)
            except OSError as error:
                raise DiskError(
                    f"cannot move {path} to {goal.parent}: {words(error)}",
                    "The rest is moved at the next start.",
                ) from error
    shutil.rmtree(source, ignore_errors=True)


def _move_file(path: Path, goal: Path) -> None:
    try:
        path.rename(goal)
    except OSError:  # another disk
        draft = goal.with_name(f".{goal.name}.moving")
        try:
            shutil.copy2(path, draft)
            draft.replace(goal)
        finally:
            draft.unlink(missing_ok=True)
