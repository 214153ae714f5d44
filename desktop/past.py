"""What this PC gave and what happened to it, for a window that is open: as its node keeps it, and else as
this program saw it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from desktop import snapshot
from desktop.client import Client
from desktop.snapshot import Given, Happening, Ledger, Snapshot

MOST = 100
"""Happenings that are kept here."""


class Past:
    """``gave`` and ``happened`` draw what was read, whenever it comes."""

    def __init__(
        self,
        client: Client,
        gave: Callable[[Ledger], None],
        happened: Callable[[tuple[Happening, ...]], None],
    ) -> None:
        self._client, self._gave, self._happened = client, gave, happened
        self._today: Given | None = None
        self._seen: list[Happening] = []

    def saw(self, seen: Snapshot, *, news: bool) -> None:
        """A snapshot; with ``news``, one that tells of something else than the one before."""
        self._today = Given(**asdict(seen.status.today))
        if news:
            self._seen.insert(0, Happening(time.time(), seen.status.state, seen.status.reason, seen.words))
            del self._seen[MOST:]

    def read(self) -> None:
        self._client.get(
            "/api/given", lambda said: self._gave(snapshot.ledger(said)), lambda why: self._give_today()
        )
        self._client.get(
            "/api/events",
            lambda said: self._happened(snapshot.happenings(said)),
            lambda why: self._happened(tuple(self._seen)),
        )

    def _give_today(self) -> None:
        """A node that cannot read what it kept still knows today."""
        if self._today is not None:
            self._gave(Ledger(today=self._today, week=self._today, all=self._today))
