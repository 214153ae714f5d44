"""Holding bytes to a rate, and counting them. Pure but for ``Throttle``, which sleeps: whoever asks brings
the time.

One ``Limit`` holds one direction of one process. What is urgent is never delayed but counted, so that what
is not waits for it: a cap holds over all bytes, and the less urgent give way first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

BURST_SECONDS = 0.25
"""How much of an unused rate may be caught up on at once."""
LOOK_SECONDS = 0.25
"""A rate may be changed while somebody waits: they look again after so long."""
GIVE_WAY = 0.5
"""Downloads go on only while this part of the burst is there to be used: whoever is more urgent and comes
meanwhile need not wait for them."""
OVERHEAD = 1500 / 1448
"""Bytes on the wire for one of payload: the headers of IPv4, and of TCP with its time stamps."""
BYTES_A_MBIT = 125_000


class Urgency(IntEnum):
    """The most urgent first."""

    DECODE = 0
    """An answer's steps, and whatever else was not asked for: never delayed."""
    PREFILL = 1
    DOWNLOAD = 2


class Bucket:
    """A token bucket of bytes. ``rate`` is bytes a second, None for no limit; may be changed at any time."""

    def __init__(self, rate: float | None = None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate must be above 0 bytes a second, not {rate}")
        self.rate = rate
        self._level = 0.0
        self._at: float | None = None

    def take(self, count: float, now: float) -> float:
        """Count ``count`` bytes that have passed at ``now`` seconds; how long to wait before the next.

        Bytes are never refused: what was taken beyond the rate is waited for afterwards, so over any
        time T that ends with a waited pause at most rate · (T + ``BURST_SECONDS``) bytes pass.
        """
        self._refill(now)
        self._level -= count
        return self.until(0.0, now)

    def until(self, fill: float, now: float) -> float:
        """Seconds until this part of the burst is there to be used."""
        if self.rate is None:
            return 0.0
        self._refill(now)
        return max(0.0, fill * BURST_SECONDS - self._level / self.rate)

    def _refill(self, now: float) -> None:
        if self.rate is None:
            self._at, self._level = None, 0.0
            return
        full = self.rate * BURST_SECONDS
        if self._at is None:
            self._level = full
        else:
            self._level = min(full, self._level + self.rate * max(0.0, now - self._at))
        self._at = now


class Limit:
    """One direction under one cap: what passes is counted, and told how long to wait.

    What is passed on is counted at once, as ``passed`` tells; what the wire carried in truth, headers,
    background and all, is told later by ``carried``, which counts what is missing.
    """

    def __init__(self, rate: float | None = None) -> None:
        self._bucket = Bucket(rate)
        self._told = 0.0
        self._carried = 0.0
        self._passed_at = float("-inf")

    @property
    def rate(self) -> float | None:
        """Bytes a second, None for no limit."""
        return self._bucket.rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate must be above 0 bytes a second, not {rate}")
        self._bucket.rate = rate

    def passed(self, count: float, now: float) -> None:
        """``count`` bytes of payload are passed on now."""
        self._told += count
        self._passed_at = now
        self._bucket.take(count, now)

    def carried(self, count: float, now: float) -> None:
        """The wire has carried ``count`` more bytes since this was last told."""
        self._carried += count
        missing = self._carried - self._told
        if missing > 0:
            self._bucket.take(missing, now)
        if missing > 0 or now - self._passed_at > 4 * BURST_SECONDS:  # nothing is on its way any more
            self._told = self._carried = 0.0

    def wait(self, urgency: Urgency, now: float) -> float:
        """Seconds that bytes of this urgency have to wait from now."""
        match urgency:
            case Urgency.DECODE:
                return 0.0
            case Urgency.PREFILL:
                return self._bucket.until(0.0, now)
            case Urgency.DOWNLOAD:
                return self._bucket.until(GIVE_WAY, now)


class Throttle:
    """A ``Limit`` that tasks of one event loop wait for."""

    def __init__(self, rate: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = Limit(rate)
        self.taken = 0.0
        """Bytes that were told so far."""
        self._clock = clock

    async def take(self, count: float, urgency: Urgency = Urgency.DOWNLOAD) -> None:
        """Counts bytes that have passed, and returns when the next may. What is urgent never waits."""
        self.taken += count
        self.limit.passed(count, self._clock())
        while True:
            pause = self.limit.wait(urgency, self._clock())
            if not pause:
                return
            await asyncio.sleep(min(pause, LOOK_SECONDS))


@dataclass(frozen=True)
class Traffic:
    """Bytes out and in, headers included."""

    up: int = 0
    down: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.up + other.up, self.down + other.down)

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.up - other.up, self.down - other.down)


@dataclass(frozen=True)
class Caps:
    """Of a donor, in Mbit/s. ``upload`` None: half of what was measured; ``download`` None: none."""

    upload: float | None = None
    download: float | None = None


def cap_of(mbit: float | None) -> float | None:
    """Bytes a second of a cap in Mbit/s; None for no cap."""
    return None if mbit is None else mbit * BYTES_A_MBIT


def left_for_downloads(cap: float | None, used: float) -> float | None:
    """Bytes a second that downloads may use beside a worker that uses ``used``: a tenth is always left, so
    that they end some day."""
    return None if cap is None else max(cap - used, 0.1 * cap)


def used_up(carried: Traffic, monthly_gb: float | None) -> bool:
    """Whether bytes in and out together have reached a quota."""
    return monthly_gb is not None and carried.up + carried.down >= monthly_gb * 1e9
