"""Whom a client may have this donor dial: pure, over times that the caller gives.

To be a stage a donor dials the next one, and its standby, as the client says. A client that names ever new
peers would make it knock at strangers' doors; so new ones are counted, a client and in all.
"""

from __future__ import annotations

from collections import deque

from core.terms import PeerId

WINDOW_SECONDS = 60.0
A_CLIENT = 32
"""New peers in that time that one client may name,"""
IN_ALL = 128
"""and all clients together."""


class Dials:
    def __init__(self) -> None:
        self._named: deque[tuple[float, PeerId, PeerId]] = deque()

    def allow(self, client: PeerId, remote: PeerId, now: float) -> bool:
        """Whether this peer may be dialled for this client; counted if it has not been of late."""
        while self._named and now - self._named[0][0] > WINDOW_SECONDS:
            self._named.popleft()
        if any(remote == peer for _, _, peer in self._named):
            return True
        theirs = sum(client == who for _, who, _ in self._named)
        if theirs >= A_CLIENT or len(self._named) >= IN_ALL:
            return False
        self._named.append((now, client, remote))
        return True
