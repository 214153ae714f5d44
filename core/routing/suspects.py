"""Donors that failed a moment ago, as this reader remembers them. Pure.

The record of a donor that was killed lives on for up to 90 s, so a plan made from records alone would
choose it again. Who fails is left out for a while, and for longer each time; a donor that has started
anew since is believed, and where nobody else serves a layer, the remembered are tried all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from core.terms import PeerId, Record

FIRST_SECONDS = 5.0
"""For so long a donor that failed once is left out; twice as long each time that it fails again,"""
LONGEST_SECONDS = 120.0
"""but no longer than this."""
FORGET_SECONDS = 600.0
"""After so long without failing, all is forgotten."""


@dataclass(frozen=True)
class _Failure:
    at: float
    times: int
    life: float
    """When the donor had started that failed: one that has started anew since is another."""

    @property
    def until(self) -> float:
        return self.at + min(FIRST_SECONDS * 2.0 ** (self.times - 1), LONGEST_SECONDS)


class Suspects:
    """``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lives: dict[PeerId, float] = {}
        self._failures: dict[PeerId, _Failure] = {}

    def relied_on(self, records: Iterable[Record]) -> None:
        """A route was planned over these."""
        self._lives |= {record.peer_id: record.started_at for record in records}

    def failed(self, peers: Iterable[PeerId]) -> None:
        """These failed now. Who is left out already has failed no second time: nobody asked it."""
        now = self._clock()
        self._failures = {p: f for p, f in self._failures.items() if now - f.at < FORGET_SECONDS}
        for peer in peers:
            known, life = self._failures.get(peer), self._lives.get(peer, 0.0)
            if known is None or known.until <= now or known.life < life:
                self._failures[peer] = _Failure(now, known.times + 1 if known else 1, life)

    def among(self, records: Iterable[Record]) -> frozenset[PeerId]:
        """Whom to leave out."""
        now = self._clock()
        return frozenset(
            record.peer_id
            for record in records
            if (failure := self._failures.get(record.peer_id)) is not None
            and now < failure.until
            and record.started_at <= failure.life
        )

    def again(self, records: Iterable[Record]) -> frozenset[PeerId]:
        """Who failed in an earlier life and serves now in another."""
        return frozenset(
            record.peer_id
            for record in records
            if (failure := self._failures.get(record.peer_id)) is not None
            and record.started_at > failure.life
        )
