"""How many layers of which kind fit: bytes that may be used → spans, and the cache beside them. Pure.

A span fits where its weights, the least cache, the workspace of a step and what the process itself takes
stay within both the owner's cap and what the device has free, also at the worst moment of loading; and
where what is not on the disk yet fits there. Memory that the span leaves goes to the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import TooLittle
from core.model.cost import Costs, disk_of, memory_of, peak_of
from core.terms import Span
from core.words import size


@dataclass(frozen=True)
class Room:
    """What may be used, in bytes. ``free`` is as the driver counts it now, ``held`` what our own worker
    holds of the device at this moment: it is not free, and would be. ``context`` is what the process takes
    before its first layer, ``workspace`` a step's temporary tensors: both measured on this PC."""

    cap: int
    free: int
    disk: int
    held: int = 0
    context: int = 0
    workspace: int = 0

    @property
    def memory(self) -> int:
        """For weights, loading, cache and workspace."""
        return min(self.cap, self.free + self.held) - self.context


@dataclass(frozen=True)
class Wish:
    """Positions of cache: with fewer than ``least`` a donor is of no use to a reader, more than ``most``
    are not asked for."""

    least: int = 2048
    most: int = 16_384


@dataclass(frozen=True)
class Fit:
    """A span with what it takes: ``memory`` at its peak, ``disk`` in all, and its cache's positions."""

    span: Span
    cache_tokens: int
    memory: int
    disk: int


class Fitting:
    """Which spans of one model fit in ``room``. ``on_disk`` are layers whose files are here already."""

    def __init__(self, table: Costs, room: Room, wish: Wish = Wish(), on_disk: Span | None = None) -> None:
        self.table, self.room, self.wish, self.on_disk = table, room, wish, on_disk

    def fits(self, span: Span) -> bool:
        return self._need(span) <= self.room.memory and self._fetch(span) <= self.room.disk

    def ends(self) -> tuple[int, ...]:
        """For each first layer, the end of the longest span that fits, or that layer itself where none
        does. A span that fits has only parts that fit, so one walk finds them all."""
        found: list[int] = []
        end = 0
        for start in range(len(self.table)):
            end = max(end, start)
            while end < len(self.table) and self.fits(Span(start, end + 1)):
                end += 1
            found.append(end)
        return tuple(found)

    def fit(self, span: Span) -> Fit:
        """What ``span`` takes, with as much cache as the memory leaves. Raises ``TooLittle``."""
        if not self.fits(span):
            raise self.refusal(span)
        tokens = self._cache(span)
        peak = peak_of(self.table, span, tokens, self.room.workspace)
        return Fit(span, tokens, self.room.context + peak, disk_of(self.table, span))

    def check(self) -> None:
        """Raises ``TooLittle`` where not a single layer fits."""
        layers = range(len(self.table))
        if any(self.fits(Span(layer, layer + 1)) for layer in layers):
            return
        smallest = min(layers, key=lambda layer: self._need(Span(layer, layer + 1)))
        raise self.refusal(Span(smallest, smallest + 1))

    def refusal(self, span: Span) -> TooLittle:
        """Why ``span`` does not fit, in words."""
        need, memory = self._need(span), self.room.memory
        what = f"layer {span.start}" if len(span) == 1 else f"layers {span.start} to {span.end - 1}"
        if need > memory:
            return TooLittle(
                f"{what} would take {size(need)} of memory and {_left(memory)} may be used",
                "Close other programs, or allow more memory.",
            )
        return TooLittle(
            f"{what} would take {size(self._fetch(span))} of the disk and {_left(self.room.disk)} is left",
            "Make room on the disk, or allow more of it.",
        )

    def refit(self, loaded: Span, worth: Callable[[Span], float] = len) -> Fit:
        """A changed room: the span around, or within, ``loaded`` that fits and is worth most, so that
        what is loaded is kept as far as it can be. Where all of it fits it only grows; where it does not,
        it is cut at either end. Raises ``TooLittle`` where none of it fits."""
        if self.fits(loaded):
            starts, ends = range(loaded.start + 1), range(loaded.end, len(self.table) + 1)
        else:
            starts, ends = range(loaded.start, loaded.end), range(loaded.start + 1, loaded.end + 1)
        spans = [Span(start, end) for start in starts for end in ends if start < end]
        fitting = [span for span in spans if self.fits(span)]
        if not fitting:
            raise self.refusal(loaded)
        return self.fit(max(fitting, key=lambda span: (worth(span), len(span), -span.start)))

    def _need(self, span: Span) -> int:
        return peak_of(self.table, span, self.wish.least, self.room.workspace)

    def _fetch(self, span: Span) -> int:
        if self.on_disk is None:
            return disk_of(self.table, span)
        here = self.on_disk
        return sum(self.table[layer].disk for layer in range(span.start, span.end) if layer not in here)

    def _cache(self, span: Span) -> int:
        """Positions that the memory leaves room for, within what is wished for."""
        position = sum(cost.cache for cost in self.table[span.start : span.end])
        if position == 0:
            return self.wish.most
        left = self.room.memory - memory_of(self.table, span) - self.room.workspace
        return max(self.wish.least, min(self.wish.most, left // position))


def _left(count: int) -> str:
    return size(count) if count > 0 else "none"


def longest(ends: Sequence[int]) -> int:
    """The length of the longest of the spans that ``Fitting.ends`` found."""
    return max(end - start for start, end in enumerate(ends))
