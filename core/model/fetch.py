"""From a model's name on the hub to a folder that ``Checkpoint`` and ``Text`` read.

The folder of one commit holds small files as the hub has them, the parts of the spans that were asked
for (``core.model.parts``), an index that says which part holds each tensor, present or not, the headers
of the shards, and ``idlebloom.json``: what the hub listed. A revision is pinned when it is first asked
for, and what is on the disk is not asked for again, so that a PC without a network starts all the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

from core import json_file
from core.errors import DiskError, ModelError
from core.model.config import SOURCE_FILE, ModelConfig, read_config, read_object
from core.model.fetched import INDEX, SINGLE, check_safe, listing, read_json
from core.model.hub import Hub, HubFile, Snapshot, Source
from core.model.parts import Part, PartFile, disk_error, part_name, plan_parts, remove, sync_folder
from core.model.progress import Meter, Report
from core.model.shelf import Shelf
from core.model.weights import MAX_HEADER, Checkpoint, Entry, Shape, check_span, parse_header, span_tensors
from core.paths import make_folder
from core.terms import Span

HUB_INDEX = "hub.index.json"
HEADERS = "headers"
LARGEST_SMALL_FILE = 200_000_000
READER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
CONFIG_FILES = ("config.json", "generation_config.json")
CARD = ("README.md",)
LARGEST_CARD = 1_000_000


Held = Callable[[Path, ModelConfig], Collection[int]]
"""Which layers of the model in that folder need no weights."""


class Fetcher:
    """Fetches models into ``shelf.root``. Cancel the task to stop: at once, and nothing is lost."""

    def __init__(self, hub: Hub, shelf: Shelf) -> None:
        self._hub, self._shelf = hub, shelf

    async def reader(
        self, source: Source, report: Callable[[int, int], None] = lambda done, total: None
    ) -> Path:
        """The folder with what a reader needs: configuration, tokenizer and model card, no weights."""
        snapshot, folder = await self._pin(source)
        await self._small(snapshot, folder, CONFIG_FILES)
        read_config(folder)  # before megabytes of a tokenizer come
        check_safe(snapshot)
        names = [*READER_FILES, *(name for name in CARD if _is_small(snapshot, name))]
        total = sum(snapshot.files[name].size for name in names if name in snapshot.files)
        done = 0
        for name in names:
            await self._small(snapshot, folder, [name])
            if name in snapshot.files:
                done += snapshot.files[name].size
                report(done, total)
        if not (folder / "tokenizer.json").is_file():
            raise ModelError(
                f"{source.model_id} has no tokenizer.json", "Choose a BLOOM checkpoint that has one."
            )
        return folder

    async def span(
        self, source: Source, span: Span, report: Report | None = None, *, held: Held | None = None
    ) -> Path:
        """The folder with the weights of ``span``, verified; ``SpanModel.load`` takes it. Layers that
        ``held`` names are left out: they are there in another form, quantized.

        Raises ModelError for a model that cannot be had or is not BLOOM, DiskError without space.
        """
        snapshot, folder = await self._pin(source)
        await self._small(snapshot, folder, CONFIG_FILES)
        config = read_config(folder)
        check_span(config, span)
        missing = set(range(span.start, span.end)) - set(held(folder, config) if held else ())
        plan = await self._plan(snapshot, folder, config, missing)
        files = [PartFile(folder, part) for part in plan.parts]
        paths = [file.path for file in files]
        await self._reserve(files, paths)
        meter = Meter(plan.total, report)
        for attempt in (1, 2):
            await self._fill(snapshot, files, plan, meter)
            wrong = await asyncio.to_thread(_wrong_shards, snapshot, folder, plan)
            if not wrong:
                break
            for part in plan.parts:
                if any(run.shard in wrong for run in part.runs):
                    remove(folder / part.name)
            if attempt == 2:
                raise ModelError(
                    f"{', '.join(sorted(wrong))} arrived damaged twice: its hash is not what the hub lists",
                    "Try again later, or through another network.",
                )
            meter = Meter(plan.total, report)
        self._shelf.touch(paths)
        return folder

    async def _pin(self, source: Source) -> tuple[Snapshot, Path]:
        """The commit that ``source`` meant when it was first asked for, and its folder."""
        home = self._shelf.root / source.model_id.replace("/", "--")
        refs = read_json(home / "refs.json")
        commit = refs.get(source.revision, source.revision)
        known = listing(home / commit) if isinstance(commit, str) and "/" not in commit else None
        if known is not None:
            return known, home / known.commit
        snapshot = await self._hub.snapshot(source)
        folder = make_folder(home / snapshot.commit)
        listed = [asdict(file) for file in snapshot.files.values()]
        stated = {"model_id": snapshot.model_id, "revision": snapshot.commit, "files": listed}
        json_file.write(folder / SOURCE_FILE, stated)
        json_file.write(home / "refs.json", refs | {source.revision: snapshot.commit})
        return snapshot, folder

    async def _small(self, snapshot: Snapshot, folder: Path, names: Iterable[str]) -> None:
        """Files that are read whole, where the revision has them; config.json it must have."""
        for name in names:
            if name in snapshot.files:
                await self._whole(snapshot, snapshot.files[name], folder / name)
            elif name == "config.json":
                raise ModelError(f"{snapshot.model_id} has no config.json", "Choose a BLOOM checkpoint.")

    async def _whole(self, snapshot: Snapshot, file: HubFile, path: Path) -> None:
        if _has_size(path, file.size):
            return
        if file.size > LARGEST_SMALL_FILE:
            raise ModelError(f"{file.name} has {file.size} bytes, far too many", "Choose another model.")
        for _ in range(2):
            data = await self._bytes(snapshot, file, 0, file.size)
            if _matches(data, file):
                _write(path, data)
                return
        raise ModelError(f"{file.name} arrived damaged twice", "Try again later.")

    async def _bytes(self, snapshot: Snapshot, file: HubFile, begin: int, end: int) -> bytes:
        data = bytearray()
        async with aclosing(self._hub.read(snapshot, file, begin, end)) as stream:
            async for chunk in stream:
                data += chunk
        return bytes(data)

    async def _plan(
        self, snapshot: Snapshot, folder: Path, config: ModelConfig, layers: Collection[int]
    ) -> _Plan:
        """Which bytes of which shards the layers are."""
        where = await self._weight_map(snapshot, folder)
        stored = {name.removeprefix("transformer."): name for name in where}
        wanted: dict[str, Shape] = {}
        for layer in sorted(layers):
            wanted |= span_tensors(config, Span(layer, layer + 1), tied="lm_head.weight" not in stored)
        for name in wanted:
            if name not in stored:
                raise ModelError(f"{snapshot.model_id} has no tensor {name}", "Choose another revision.")
        headers = {}
        for shard in sorted({where[stored[name]] for name in wanted}):
            headers[shard] = await self._header(snapshot, folder, shard)
        entries: dict[str, Entry] = {}
        for name, shape in wanted.items():
            shard = where[stored[name]]
            entry = headers[shard].get(stored[name])
            if entry is None or entry.shape != shape:
                raise ModelError(
                    f"{snapshot.model_id}: {shard} does not hold {name} in the shape of config.json",
                    "Choose another revision.",
                )
            entries[stored[name]] = entry
        index = {"weight_map": {name: part_name(name) for name in sorted(where)}}
        if read_json(folder / INDEX) != index:
            json_file.write(folder / INDEX, index)
        return _Plan(tuple(plan_parts(entries)), entries, headers)

    async def _weight_map(self, snapshot: Snapshot, folder: Path) -> dict[str, str]:
        """Which shard holds each tensor."""
        if SINGLE in snapshot.files:
            return dict.fromkeys(await self._header(snapshot, folder, SINGLE), SINGLE)
        if INDEX in snapshot.files:
            await self._whole(snapshot, snapshot.files[INDEX], folder / HUB_INDEX)
            mapping = read_object(folder / HUB_INDEX).get("weight_map")
            if not isinstance(mapping, dict) or not all(
                isinstance(shard, str) and "/" not in shard and shard in snapshot.files
                for shard in mapping.values()
            ):
                raise ModelError(f"{snapshot.model_id} has no usable {INDEX}", "Choose another revision.")
            return mapping
        check_safe(snapshot)
        raise ModelError(f"{snapshot.model_id} holds no weights", "Choose another model.")

    async def _header(self, snapshot: Snapshot, folder: Path, shard: str) -> dict[str, Entry]:
        file, path = snapshot.files[shard], make_folder(folder / HEADERS) / shard
        if not path.is_file():
            length = await self._bytes(snapshot, file, 0, min(8, file.size))
            count = int.from_bytes(length, "little")
            if len(length) < 8 or not 2 <= count <= min(MAX_HEADER, file.size - 8):
                raise ModelError(
                    f"{shard} of {snapshot.model_id} is no safetensors file", "Choose another revision."
                )
            text = await self._bytes(snapshot, file, 8, 8 + count)
            parse_header(path, text, file.size)  # what is no header is not kept
            _write(path, length + text)
        return parse_header(path, path.read_bytes()[8:], file.size)

    async def _reserve(self, files: list[PartFile], paths: list[Path]) -> None:
        """Room on the disk for what is still to come, before any of it does."""
        lacking = 0
        for file in files:
            if not file.whole:
                there = file.path.with_name(f"{file.part.name}.partial")
                lacking += file.part.size - (there.stat().st_size if there.is_file() else 0)
        if lacking:
            await asyncio.to_thread(self._shelf.make_room, lacking, paths)

    async def _fill(self, snapshot: Snapshot, files: list[PartFile], plan: _Plan, meter: Meter) -> None:
        whole = [file for file in files if file.whole]
        meter.found(sum(file.part.size for file in whole))
        for file in files:
            if file not in whole:
                await self._part(snapshot, file, meter)

    async def _part(self, snapshot: Snapshot, file: PartFile, meter: Meter) -> None:
        await asyncio.to_thread(file.open)
        meter.found(file.have)
        try:
            for run in file.part.missing(file.have):
                shard = snapshot.files[run.shard]
                async with aclosing(self._hub.read(snapshot, shard, run.begin, run.end)) as stream:
                    async for data in stream:
                        if file.append(data):
                            await asyncio.shield(asyncio.to_thread(file.note))
                        meter.passed(len(data))
        except BaseException as error:
            if not isinstance(error, DiskError):
                file.note()  # stopped, cut or refused: what came so far need not come again
            file.close()
            raise
        await asyncio.to_thread(file.finish)


@dataclass(frozen=True)
class _Plan:
    """``entries``: the span's tensors by stored name; ``headers``: all tensors of their shards."""

    parts: tuple[Part, ...]
    entries: Mapping[str, Entry]
    headers: Mapping[str, Mapping[str, Entry]]

    @property
    def total(self) -> int:
        return sum(part.size for part in self.parts)

    def whole_shards(self, snapshot: Snapshot) -> list[str]:
        """Shards all of whose bytes are the span's: their hash can be compared with the hub's."""
        return [
            shard
            for shard, tensors in self.headers.items()
            if tensors.keys() <= self.entries.keys()
            and min(entry.begin for entry in tensors.values())
            + sum(entry.end - entry.begin for entry in tensors.values())
            == snapshot.files[shard].size
        ]


def _wrong_shards(snapshot: Snapshot, folder: Path, plan: _Plan) -> set[str]:
    """Of the shards that are there whole, those whose hash is not the hub's. Each is judged once."""
    wrong = set()
    for shard in plan.whole_shards(snapshot):
        seal = folder / HEADERS / f"{shard}.verified"
        expected = snapshot.files[shard].sha256
        inputs = sorted({part_name(name) for name in plan.headers[shard]})
        stamp = " ".join(f"{name}:{(folder / name).stat().st_ino}" for name in inputs)
        if expected is None or (seal.is_file() and seal.read_text() == stamp):
            continue
        if _hash_shard(folder, shard, plan.headers[shard]) == expected:
            _write(seal, stamp.encode())
        else:
            wrong.add(shard)
    return wrong


def _hash_shard(folder: Path, shard: str, tensors: Mapping[str, Entry]) -> str:
    """The SHA-256 of a shard, put together again from its header and the parts."""
    digest = hashlib.sha256((folder / HEADERS / shard).read_bytes())
    checkpoint = Checkpoint(folder)
    for name in sorted(tensors, key=lambda name: (tensors[name].begin, tensors[name].end)):
        for piece in checkpoint.raw(name.removeprefix("transformer.")):
            digest.update(piece)
    return digest.hexdigest()


def _is_small(snapshot: Snapshot, name: str) -> bool:
    return name in snapshot.files and snapshot.files[name].size <= LARGEST_CARD


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _matches(data: bytes, file: HubFile) -> bool:
    if file.sha256:
        return hashlib.sha256(data).hexdigest() == file.sha256
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return file.blob is None or git == file.blob


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_bytes(data)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_error(path, error) from error
