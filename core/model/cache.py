"""The key/value cache of a span: one pool, of which each session holds a slot that grows by pages.

On the CPU a session's keys must lie together, because gathering pages costs more than attending. So every
slot has room for the model's whole length in *virtual* memory, and the kernel commits it as it is
written; the pool counts tokens against its capacity, and hands pages back to the kernel when a
session shrinks or ends. What is handed back reads as zeros: no session ever sees another's.

A GPU commits nothing lazily. There the pool is pages that are all there from the start, a session holds
a list of them, and attention follows it (``core.model.paged``). What a page held before is not wiped: nothing
reads a position that its own session has not written.
"""

from __future__ import annotations

import math
import mmap
import sys

import torch

from core.errors import ModelError
from core.model.config import ModelConfig
from core.model.weights import blocks_of, check_span
from core.terms import Span

PAGE = 32
"""Tokens are reserved in pages of this many: for heads of 64 bfloat16 numbers, one page of memory."""


class CacheFull(ModelError):
    """All slots are taken."""


class Slot:
    """One session's share of a pool. Made by ``CachePool.open``; positions are absolute."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.reserved = 0
        """Positions ``[0, reserved)`` may be written."""
        self.pages: list[int] = []
        """Where they lie, in a pool of pages."""
        self.open = True
        self.steps = 0
        """Steps under way that may write here."""
        self.ending = False
        """Released, but for those."""

    def __repr__(self) -> str:
        return f"Slot({self.index}, reserved={self.reserved}, open={self.open})"


class CachePool:
    """Keys and values of the blocks in ``span``, for sessions of up to ``max_length`` tokens each and
    ``capacity_tokens`` in all.

    ``layers[b]`` is the b-th block's storage [2 (keys, values), slots, heads, length, head_dim], or where
    the pool is ``paged`` [pages, 2, heads, PAGE, head_dim].
    """

    def __init__(
        self,
        config: ModelConfig,
        span: Span,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        capacity_tokens: int = 16_384,
        *,
        max_length: int | None = None,
        slots: int = 64,
        paged: bool | None = None,
    ) -> None:
        check_span(config, span)
        self.device = torch.device(device)
        self.max_length = max_length or config.max_length
        self.length = _slot_length(self.max_length, config.head_dim * dtype.itemsize)
        self.capacity = capacity_tokens // PAGE * PAGE
        self.paged = self.device.type != "cpu" if paged is None else paged
        if slots < 1 or self.capacity < PAGE:
            raise ModelError(f"a cache of {capacity_tokens} tokens holds no session", "Give it more memory.")
        self._most = self.capacity
        self._config, self._dtype = config, dtype
        self._shape = (2, slots, config.heads, self.length, config.head_dim)
        if self.paged:
            self._shape = (self.capacity // PAGE, 2, config.heads, PAGE, config.head_dim)
        self._free_pages = list(range(self.capacity // PAGE - 1, -1, -1)) if self.paged else []
        self._of_block: dict[int, _Storage] = {}
        self._hold(span)
        self._used = 0
        self._free_slots = list(range(slots))

    def _hold(self, span: Span) -> None:
        known = self._of_block
        self._of_block = {
            block: known.get(block) or _Storage(self._shape, self._dtype, self.device, lazy=not self.paged)
            for block in blocks_of(self._config, span)
        }
        self.span = span
        self._storages = list(self._of_block.values())
        self.layers = [storage.tensor for storage in self._storages]
        self.first_block = max(span.start, 1)
        """The layer number of ``layers[0]``."""

    def resize(self, span: Span) -> None:
        """Hold the blocks of ``span`` from now on; sessions keep what they have of blocks that stay. Not
        while anything runs."""
        check_span(self._config, span)
        self._hold(span)

    def limit(self, tokens: int) -> None:
        """Lend at most ``tokens`` positions in all from now on, and never more than the pool was made for;
        what is reserved beyond stays so."""
        self.capacity = max(PAGE, min(self._most, tokens // PAGE * PAGE))

    @property
    def token_bytes(self) -> int:
        """Bytes that one position of a session takes once it is written."""
        return 2 * self._config.hidden * self._dtype.itemsize * len(self._storages)

    @property
    def used_tokens(self) -> int:
        """Positions that sessions have reserved."""
        return self._used

    @property
    def free_tokens(self) -> int:
        """Positions that can still be reserved, in all sessions together."""
        return max(0, self.capacity - self._used)

    @property
    def free_slots(self) -> int:
        return len(self._free_slots)

    def open(self) -> Slot:
        """An empty slot, the lowest free one: neighbours are attended in one product. CacheFull if none."""
        if not self._free_slots:
            raise CacheFull("this donor holds as many sessions as it can", "Try again later.")
        lowest = min(self._free_slots)
        self._free_slots.remove(lowest)
        return Slot(lowest)

    def reserve(self, slot: Slot, upto: int) -> bool:
        """Make positions ``[0, upto)`` writable. False, and nothing changed, when the pool is full.

        Raises ValueError beyond the length of a session or for a slot that was released.
        """
        _must_be_open(slot)
        if upto > self.max_length:
            raise ValueError(f"position {upto} is beyond the session's length of {self.max_length}")
        wanted = max(slot.reserved, _round_up(upto))
        if wanted - slot.reserved > self.free_tokens:
            return False
        self._used += wanted - slot.reserved
        if self.paged:
            slot.pages += [self._free_pages.pop() for _ in range((wanted - slot.reserved) // PAGE)]
        slot.reserved = wanted
        return True

    def copy(self, source: Slot, target: Slot, upto: int) -> bool:
        """Give ``target`` the positions below ``upto`` of ``source``; False when the pool is full."""
        _must_be_open(source)
        if not self.reserve(target, upto):
            return False
        if self.paged:
            taken, given = (self._numbers(slot.pages[: -(-upto // PAGE)]) for slot in (source, target))
            for layer in self.layers:
                layer[given] = layer[taken]
        else:
            for layer in self.layers:
                layer[:, target.index, :, :upto] = layer[:, source.index, :, :upto]
        return True

    def _numbers(self, pages: list[int]) -> torch.Tensor:
        """On the device, without waiting for what it is doing."""
        here = torch.tensor(pages, dtype=torch.int64, pin_memory=self.device.type == "cuda")
        return here.to(self.device, non_blocking=True)

    def truncate(self, slot: Slot, to: int) -> None:
        """Keep positions ``[0, to)`` and give back the pages beyond."""
        _must_be_open(slot)
        kept = min(slot.reserved, _round_up(max(to, 0)))
        if kept == slot.reserved:
            return
        if self.paged:
            self._free_pages += reversed(slot.pages[kept // PAGE :])
            del slot.pages[kept // PAGE :]
        else:
            for storage in self._storages:
                storage.forget(slot.index, kept)
        self._used -= slot.reserved - kept
        slot.reserved = kept

    def release(self, slot: Slot) -> None:
        """End the session: all its memory is given back, to others too once no step is under way that may
        write there. A second release does nothing."""
        slot.ending = True
        if slot.open and not slot.steps:
            self.truncate(slot, 0)
            slot.open = False
            self._free_slots.append(slot.index)

    @staticmethod
    def begin_step(slot: Slot) -> None:
        """The engine has a step that writes to this slot, whatever becomes of its session meanwhile."""
        slot.steps += 1

    def end_step(self, slot: Slot) -> None:
        """It has been run."""
        slot.steps -= 1
        if slot.ending:
            self.release(slot)


def _round_up(tokens: int) -> int:
    return -(-tokens // PAGE) * PAGE


def _must_be_open(slot: Slot) -> None:
    if not slot.open:
        raise ValueError("this slot was released")


class _Storage:
    """One block's keys and values, whose memory can be given back in parts."""

    def __init__(
        self, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device, *, lazy: bool
    ) -> None:
        self._map: mmap.mmap | None = None
        if not lazy:
            self.tensor = torch.empty(shape, dtype=dtype, device=device)
            return
        if not sys.platform.startswith("linux"):
            self.tensor = torch.zeros(shape, dtype=dtype, device=device)
            return
        count = math.prod(shape)
        self._map = _lazy_memory(count * dtype.itemsize)
        self.tensor = torch.frombuffer(self._map, dtype=dtype, count=count).view(shape)

    def forget(self, slot: int, start: int) -> None:
        """Let go of the memory of positions from ``start`` on; from 0 on, all of it reads as zeros."""
        if self._map is None:
            self.tensor[:, slot, :, start:].zero_()
            return
        _, slots, heads, length, dim = self.tensor.shape
        head_bytes = length * dim * self.tensor.element_size()
        kept = -(-start * dim * self.tensor.element_size() // mmap.PAGESIZE) * mmap.PAGESIZE
        for part in range(2):
            base = (part * slots + slot) * heads * head_bytes
            if start == 0:
                self._map.madvise(mmap.MADV_DONTNEED, base, heads * head_bytes)
                continue
            for first in range(base, base + heads * head_bytes, head_bytes):
                if kept < head_bytes:
                    self._map.madvise(mmap.MADV_DONTNEED, first + kept, head_bytes - kept)


def _lazy_memory(size: int) -> mmap.mmap:
    """Zeros that take memory only once they are written, 4 KiB at a time."""
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # named from Python 3.13 on
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    memory.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page would commit thousands of tokens for one
    return memory


def _slot_length(max_length: int, token_bytes: int) -> int:
    """At least ``max_length`` positions, such that each head's stretch starts on a memory page."""
    step = math.lcm(PAGE, mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, token_bytes))
    return -(-max_length // step) * step
