"""A kept file of tensors, hashed by several threads on its way to where the tensors are wanted.

One thread that hashes is slower than a good disk. On the CPU a file is mapped: threads hash its pieces,
which reads them; nothing is copied. For a GPU a thread reads a piece into page-locked memory and hashes it
while it goes on to the device, so that no layer is ever held on the host.

Each CPU second brings (AVX-512, SHA extensions, file in the system's cache) 1.6 GB mapped, 0.8 GB read into
new memory, which has to be cleared first.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from core.model.weights import DTYPES, Entry, parse_header

PIECE_BYTES = 4 << 20
"""Hashes are of pieces of tensors of so many bytes: part of the format of what is kept."""
ALL_DTYPES = DTYPES | {"U8": torch.uint8, "I8": torch.int8, "I32": torch.int32, "I64": torch.int64}
BUFFERS = 2
"""Page-locked pieces a thread: one is filled while the other goes to the device."""


@dataclass(frozen=True)
class Content:
    """``digest``: SHA-256 over each tensor's name, dtype, shape, and the SHA-256 of its pieces, by names."""

    metadata: Mapping[str, str]
    tensors: dict[str, Tensor]
    digest: str


def read(path: Path, device: torch.device) -> Content:
    """OSError where it cannot be read, SafetensorError, ModelError or ValueError where it is not whole."""
    return _mapped(path) if device.type == "cpu" else _copied(path, device)


def _mapped(path: Path) -> Content:
    tensors: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            tensors[name] = file.get_tensor(name)
    return Content(metadata, tensors, digest_of(tensors))


def _copied(path: Path, device: torch.device) -> Content:
    file = os.open(path, os.O_RDONLY)
    try:
        entries, metadata = _header(path, file)
        tensors = {
            name: torch.empty(one.shape, dtype=one.dtype, device=device) for name, one in entries.items()
        }
        reader, digest = _Reader(file, device), Digest()
        try:
            for name in sorted(entries):
                digest.begin(name, tensors[name])
                digest.pieces += [
                    _threads().submit(reader.read, tensors[name], first, last, entries[name].begin)
                    for first, last in cuts(tensors[name])
                ]
            found = digest.result()
        finally:
            digest.wait()  # the file is closed, and on an error memory given back, when nobody uses it
    finally:
        os.close(file)
    return Content(metadata, tensors, found)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """The digest of tensors on the host."""
    digest = Digest()
    for name in sorted(tensors):
        data = _bytes(tensors[name])
        digest.begin(name, tensors[name])
        digest.pieces += [_threads().submit(_sha256, data[first:last]) for first, last in cuts(tensors[name])]
    return digest.result()


class Digest:
    """Of tensors as they come, in parts or as what will be one."""

    def __init__(self) -> None:
        self.pieces: list[bytes | Future[bytes]] = []

    def begin(self, name: str, tensor: Tensor) -> None:
        self.pieces.append(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())

    def result(self) -> str:
        whole = hashlib.sha256()
        for piece in self.pieces:
            whole.update(piece if isinstance(piece, bytes) else piece.result())
        return whole.hexdigest()

    def wait(self) -> None:
        """Until no thread works on any piece, whatever became of it."""
        for piece in self.pieces:
            if isinstance(piece, Future) and not piece.cancel():
                piece.exception()


def cuts(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Where its pieces begin and end, in bytes."""
    size = tensor.numel() * tensor.element_size()
    for first in range(0, size, PIECE_BYTES):
        yield first, min(size, first + PIECE_BYTES)


class _Reader:
    def __init__(self, file: int, device: torch.device) -> None:
        self._file, self._device = file, device
        # What a stream of ours writes may have served another tensor, which kernels still use.
        self._ready = torch.cuda.current_stream(device).record_event()

    @torch.inference_mode()  # as the tensors were made: the mode is a thread's own
    def read(self, tensor: Tensor, first: int, last: int, begin: int) -> bytes:
        """Fills bytes [first, last) of a tensor that begins at ``begin`` of the file; their hash."""
        lane = _lane(self._device)
        host = lane.next()
        part = _bytes(host)[: last - first]
        _fill(self._file, part, begin + first)
        with torch.cuda.stream(lane.stream):
            lane.stream.wait_event(self._ready)
            tensor.reshape(-1).view(torch.uint8)[first:last].copy_(host[: last - first], non_blocking=True)
            lane.sent()
        found = _sha256(part)  # while it is on its way
        lane.stream.synchronize()
        return found


class _Lane:
    """A thread's stream and its page-locked pieces."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._hosts = [torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(BUFFERS)]
        self._sent: list[torch.cuda.Event | None] = [None] * BUFFERS
        self._at = 0

    def next(self) -> Tensor:
        """A piece that nothing reads any more."""
        self._at = (self._at + 1) % BUFFERS
        if (sent := self._sent[self._at]) is not None:
            sent.synchronize()
        return self._hosts[self._at]

    def sent(self) -> None:
        self._sent[self._at] = self.stream.record_event()


_local = threading.local()


def _lane(device: torch.device) -> _Lane:
    lanes: dict[torch.device, _Lane] = _local.__dict__.setdefault("lanes", {})
    if device not in lanes:
        lanes[device] = _Lane(device)
    return lanes[device]


@cache
def _threads() -> ThreadPoolExecutor:
    """Hashing takes longest, so nearly all cores; two are left for what starts meanwhile."""
    return ThreadPoolExecutor(max(2, min(16, (os.cpu_count() or 2) - 2)), "read")


def _header(path: Path, file: int) -> tuple[dict[str, Entry], dict[str, str]]:
    size = os.fstat(file).st_size
    length = int.from_bytes(os.pread(file, 8, 0), "little")
    if not 2 <= length <= size - 8:
        raise ValueError("its header is cut off")
    text = bytearray(length)
    _fill(file, memoryview(text), 8)
    entries = parse_header(path, bytes(text), size, ALL_DTYPES)
    stated = json.loads(text).get("__metadata__")
    metadata = stated if isinstance(stated, dict) else {}
    return entries, {str(name): str(value) for name, value in metadata.items()}


def _fill(file: int, part: memoryview, at: int) -> None:
    while part:
        count = os.preadv(file, [part], at)
        if not count:
            raise ValueError("it is cut off")
        part, at = part[count:], at + count


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _sha256(data: memoryview) -> bytes:
    return hashlib.sha256(data).digest()
