"""The tensors of a local Hugging Face BLOOM folder, found by name and mapped from the file; never unpickled.

Format of a safetensors file: 8 bytes of little-endian length, that many bytes of JSON
``{name: {dtype, shape, data_offsets}}``, then the data that the offsets point into
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.errors import ModelError
from core.model.config import ModelConfig, read_object
from core.terms import Span

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
MAX_HEADER = 100_000_000
_AGAIN = "Download the file again."

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: bytes ``[begin, end)`` of its file."""

    file: str
    dtype: torch.dtype
    shape: Shape
    begin: int
    end: int


class Checkpoint:
    """The tensors of one folder, by their names without the prefix ``transformer.``.

    Opening it reads no tensor, only an index where there is one; headers are read as tensors are
    asked for, so that a folder may lack the shards of other spans.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = _files(folder)
        self._headers: dict[str, dict[str, Entry]] = {}
        self._maps: dict[str, mmap.mmap] = {}

    def has(self, name: str) -> bool:
        """Whether the checkpoint has this tensor; of an index, whose shards may be absent, that alone."""
        known = self._files if isinstance(self._files, dict) else self._header(self._files)
        return name in known or f"transformer.{name}" in known

    def check(self, wanted: Mapping[str, Shape]) -> int:
        """The bytes that the tensors ``wanted`` take in the files.

        Raises ModelError unless every one is there, whole, of its shape and of a known dtype.
        """
        total = 0
        for name, shape in wanted.items():
            entry = self._entry(name)
            if entry.shape != shape:
                raise ModelError(
                    f"{self.folder / entry.file}: {name} has shape {list(entry.shape)}, not {list(shape)}",
                    "config.json and the weights do not belong together: download both again.",
                )
            total += entry.end - entry.begin
        return total

    def tensor(self, name: str) -> Tensor:
        """The tensor as it lies in the file, mapped: its bytes are read when they are touched."""
        entry = self._entry(name)
        mapped = self._map(entry.file)
        count = math.prod(entry.shape)
        if entry.begin % entry.dtype.itemsize:  # the format does not promise alignment
            data = bytearray(mapped[entry.begin : entry.end])
            return torch.frombuffer(data, dtype=entry.dtype, count=count).reshape(entry.shape)
        whole = torch.frombuffer(mapped, dtype=entry.dtype, count=count, offset=entry.begin)
        return whole.reshape(entry.shape)

    def raw(self, name: str) -> Iterator[bytes]:
        """The tensor's bytes as they lie in the file, a MiB at a time."""
        entry = self._entry(name)
        mapped = self._map(entry.file)
        for at in range(entry.begin, entry.end, 1 << 20):
            yield mapped[at : min(at + (1 << 20), entry.end)]

    def bytes_of(self, name: str) -> int:
        entry = self._entry(name)
        return entry.end - entry.begin

    def _entry(self, name: str) -> Entry:
        stored = self._stored_name(name)
        if stored is None:
            raise ModelError(f"{self.folder} holds no tensor {name}", "Download the checkpoint again.")
        file = self._files[stored] if isinstance(self._files, dict) else self._files
        return self._header(file)[stored]

    def _stored_name(self, name: str) -> str | None:
        if isinstance(self._files, dict):
            known: Mapping[str, object] = self._files
        else:
            known = self._header(self._files)
        for stored in (name, f"transformer.{name}"):
            if stored in known:
                if isinstance(self._files, dict) and stored not in self._header(self._files[stored]):
                    where = self.folder / self._files[stored]
                    raise ModelError(f"{where} lacks the tensor {stored} that the index promises", _AGAIN)
                return stored
        return None

    def _header(self, file: str) -> dict[str, Entry]:
        if file not in self._headers:
            self._headers[file] = _read_header(self.folder, file)
        return self._headers[file]

    def _map(self, file: str) -> mmap.mmap:
        if file not in self._maps:
            with (self.folder / file).open("rb") as opened:
                # Private and writable, only because torch warns about read-only buffers.
                self._maps[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._maps[file]


def _files(folder: Path) -> str | dict[str, str]:
    """The one file that holds all tensors, or which file of an index holds each."""
    if (folder / "model.safetensors").is_file():
        return "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        mapping = read_object(index).get("weight_map")
        if not isinstance(mapping, dict) or not all(_is_file_name(name) for name in mapping.values()):
            raise ModelError(f"{index} has no usable weight_map", _AGAIN)
        return mapping
    if any(folder.glob("*.bin")):
        raise ModelError(
            f"{folder} holds pickled weights (.bin), which can run code when they are read",
            "Only safetensors are read: get the checkpoint in that format, or convert it where you trust it "
            "with transformers' save_pretrained(…, safe_serialization=True).",
        )
    raise ModelError(f"{folder} holds no model.safetensors and no index of one", "Download the weights.")


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def _read_header(folder: Path, file: str) -> dict[str, Entry]:
    path = folder / file
    try:
        size = path.stat().st_size
        with path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if size < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
                raise ModelError(f"{path} is not a whole safetensors file: its header is cut off", _AGAIN)
            text = opened.read(length)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", "Download the file.") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from None
    return parse_header(path, text, size)


def parse_header(
    path: Path, text: bytes, size: int, dtypes: Mapping[str, torch.dtype] = DTYPES
) -> dict[str, Entry]:
    """The tensors that ``text`` describes, the header of a file of ``size`` bytes. Raises ModelError."""
    try:
        raw = json.loads(text)
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        raise ModelError(f"{path} is damaged: its header is not a JSON object", _AGAIN)
    names = (name for name in raw if name != "__metadata__")
    return {name: _parse_entry(path, name, raw[name], 8 + len(text), size, dtypes=dtypes) for name in names}


def _parse_entry(
    path: Path, name: str, raw: Any, base: int, size: int, *, dtypes: Mapping[str, torch.dtype]
) -> Entry:
    try:
        kind, shape, (begin, end) = raw["dtype"], tuple(raw["shape"]), raw["data_offsets"]
        counts_ok = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        counts_ok = False
    if not counts_ok or begin > end:
        raise ModelError(f"{path} is damaged: its header describes {name} wrongly", _AGAIN)
    if base + end > size:
        raise ModelError(f"{path} is cut off: {name} ends at byte {base + end} of {size}", _AGAIN)
    if kind not in dtypes:
        raise ModelError(
            f"{path}: {name} is stored as {kind}, not F32, F16 or BF16", "Use another checkpoint."
        )
    if end - begin != math.prod(shape) * dtypes[kind].itemsize:
        raise ModelError(f"{path} is damaged: {name} has the wrong number of bytes", _AGAIN)
    return Entry(path.name, dtypes[kind], shape, base + begin, base + end)


def check_span(config: ModelConfig, span: Span) -> None:
    """ModelError unless the model has all layers of ``span``."""
    if span.end > config.layers:
        raise ModelError(
            f"span {span} is outside this model's layers 0 to {config.layers - 1}",
            f"Choose a span within 0:{config.layers}.",
        )


def span_tensors(config: ModelConfig, span: Span, *, tied: bool) -> dict[str, Shape]:
    """Names and shapes of all tensors that ``span`` needs."""
    hidden, matrix = config.hidden, (config.vocab, config.hidden)
    wanted: dict[str, Shape] = {}
    if 0 in span:
        wanted["word_embeddings.weight"] = matrix
        wanted |= _pair("word_embeddings_layernorm", (hidden,))
    for block in blocks_of(config, span):
        for name, shape in block_tensors(hidden).items():
            wanted[f"h.{block}.{name}"] = shape
    if config.layers - 1 in span:
        wanted |= _pair("ln_f", (hidden,))
        wanted["word_embeddings.weight" if tied else "lm_head.weight"] = matrix
    return wanted


def blocks_of(config: ModelConfig, span: Span) -> Iterator[int]:
    """The numbers, from 0, of the blocks in ``span``: block b is layer b + 1."""
    return iter(range(max(span.start, 1) - 1, min(span.end, config.layers - 1) - 1))


def block_tensors(hidden: int) -> dict[str, Shape]:
    """Names and shapes of one block's tensors."""
    return (
        _pair("input_layernorm", (hidden,))
        | _pair("self_attention.query_key_value", (3 * hidden, hidden))
        | _pair("self_attention.dense", (hidden, hidden))
        | _pair("post_attention_layernorm", (hidden,))
        | _pair("mlp.dense_h_to_4h", (4 * hidden, hidden))
        | _pair("mlp.dense_4h_to_h", (hidden, 4 * hidden))
    )


def _pair(name: str, weight: Shape) -> dict[str, Shape]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
