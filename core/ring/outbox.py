"""The sending side of one lane: hop numbers, what is not acknowledged, and the window."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from core.ring.frames import Frame, Lane
from core.ring.log import rows_of

BULK_WINDOW = 2
"""Prefill chunks of a session that a neighbour may hold without having run them."""


class Outbox:
    """The sending side of one lane to one neighbour: numbers frames, keeps what is not acknowledged,
    holds back what the window does not admit.

    ``way`` says how much may be on its way to the neighbour beyond the window, in the unit of payloads'
    ``len``: on a long way two chunks would leave the wire idle until word of their run is back. Of what has
    arrived, the neighbour still holds no more than the window when the next frame leaves."""

    def __init__(self, lane: Lane, way: Callable[[], int] = lambda: 0) -> None:
        self.lane = lane
        self.window = BULK_WINDOW if lane is Lane.BULK else None
        self.next_hop = 0
        self.received = self.run = -1
        self.unreceived: deque[Frame] = deque()
        self.waiting: deque[Frame] = deque()
        self._way = way
        self._flying = 0

    def send(self, frame: Frame) -> list[Frame]:
        """Takes a frame whose hop is not set; returns what may leave now, numbered."""
        self.waiting.append(frame)
        return self._release()

    def acknowledge(self, received: int, run: int) -> list[Frame]:
        """Returns the frames that the window now admits."""
        while self.unreceived and self.unreceived[0].hop <= received:
            self._flying -= len(self.unreceived.popleft().payload)
        self.received = max(self.received, min(received, self.next_hop - 1))
        self.run = max(self.run, min(run, self.next_hop - 1))
        return self._release()

    def again(self) -> list[Frame]:
        """After the stream was dialled again: everything that was not acknowledged, in order."""
        return list(self.unreceived)

    def forget(self, rollback: int) -> None:
        """Drops what waits with a lower rollback count: nobody would run it."""
        self.waiting = deque(frame for frame in self.waiting if frame.rollback >= rollback)

    def truncate(self, rollback: int, length: int) -> None:
        """Goes on with what waits below ``length``, which whoever is filled still lacks, under this count."""
        kept = [(frame, min(frame.count, length - frame.start)) for frame in self.waiting]
        self.waiting = deque(
            replace(
                frame, rollback=rollback, count=count, payload=rows_of(frame.payload, frame.count, 0, count)
            )
            for frame, count in kept
            if count > 0
        )

    def _release(self) -> list[Frame]:
        released = []
        while self.waiting and self._admits():
            frame = replace(self.waiting.popleft(), hop=self.next_hop)
            self.next_hop += 1
            self.unreceived.append(frame)
            self._flying += len(frame.payload)
            released.append(frame)
        return released

    def _admits(self) -> bool:
        if self.window is None or self.next_hop - 1 - self.run < self.window:
            return True
        return self.received - self.run < self.window and self._flying < self._way()
