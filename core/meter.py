"""Holding bytes to a rate. Pure: whoever asks brings the time, and waits as long as it is told."""

from __future__ import annotations

BURST_SECONDS = 0.25
"""How much of an unused rate may be caught up on at once."""


class Bucket:
    """A token bucket of bytes. ``rate`` is bytes a second, None for no limit; may be changed at any time."""

    def __init__(self, rate: float | None = None) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"a rate must be above 0 bytes a second, not {rate}")
        self.rate = rate
        self._level = 0.0
        self._at: float | None = None

    def take(self, count: int, now: float) -> float:
        """Count ``count`` bytes that have passed at ``now`` seconds; how long to wait before the next.

        Bytes are never refused: what was taken beyond the rate is waited for afterwards, so over any
        time T that ends with a waited pause at most rate · (T + ``BURST_SECONDS``) bytes pass.
        """
        if self.rate is None:
            self._at = None
            return 0.0
        full = self.rate * BURST_SECONDS
        if self._at is None:
            self._level = full
        else:
            self._level = min(full, self._level + self.rate * max(0.0, now - self._at))
        self._at = now
        self._level -= count
        return max(0.0, -self._level / self.rate)
