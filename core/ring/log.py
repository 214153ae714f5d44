"""A stage's outputs, kept for the day the next stage is replaced."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

REPLAY_ROWS = 128
"""Positions of a log that go into one frame."""


class Log:
    """A stage's outputs as they were sent, for the day the next stage is replaced. Consecutive
    positions from ``first`` to ``end``; payloads are sequences of equal stretches a position."""

    def __init__(self) -> None:
        self.first = 0
        self.end = 0
        self.size = 0
        """Of all payloads together, in the unit of their ``len``."""
        self._entries: deque[tuple[int, int, Any]] = deque()

    def append(self, start: int, count: int, payload: Any) -> None:
        if start != self.end:
            self.clear(start)
        self._entries.append((start, count, payload))
        self.end = start + count
        self.size += len(payload)

    def truncate(self, length: int) -> None:
        """Forgets the positions from ``length`` on."""
        while self._entries and self.end > length:
            start, count, payload = self._entries.pop()
            self.end = start
            self.size -= len(payload)
            if start < length:
                self.append(start, length - start, rows_of(payload, count, 0, length - start))
        self.first = min(self.first, length)
        self.end = min(self.end, length)

    def clear(self, position: int) -> None:
        """Forgets everything; what comes next begins at ``position``."""
        self._entries.clear()
        self.first = self.end = position
        self.size = 0

    def pieces(self, start: int, most: int) -> Iterator[tuple[int, int, Any]]:
        """What is logged from ``start`` on, joined to pieces of at most ``most`` positions or, where
        they are longer, as they are."""
        held: list[Any] = []
        begin = start
        before = 1
        for first, count, payload in self._entries:
            if first + count <= start:
                continue
            skip = max(start - first, 0)
            rows = rows_of(payload, count, skip, count)
            if held and (first + count - begin > most or not _alike(held[-1], before, rows, count - skip)):
                yield begin, first - begin, _joined(held)
                held, begin = [], first
            begin = begin if held else first + skip
            held.append(rows)
            before = count - skip
        if held:
            yield begin, self.end - begin, _joined(held)


def rows_of(payload: Any, count: int, start: int, end: int) -> Any:
    """The stretch of a payload of ``count`` positions that belongs to positions ``start`` to ``end``."""
    if (start, end) == (0, count):
        return payload
    width = len(payload) // count
    return payload[start * width : end * width]


def _alike(one: Any, its: int, other: Any, others: int) -> bool:
    """Whether two payloads have stretches of the same length: a prompt may be logged in fewer bytes."""
    return len(one) * others == len(other) * its


def _joined(payloads: list[Any]) -> Any:
    if len(payloads) == 1:
        return payloads[0]
    return b"".join(payloads) if isinstance(payloads[0], bytes) else sum(payloads, ())
