"""Donors that failed a moment ago, as this reader remembers them. Pure.

The record of a donor that was killed lives on for up to 90 s, so a plan made from records alone would
choose it again. Who fails is left out for a while, and for longer each time; a donor that has started
anew since is believed, so is one that was only silent and is heard again, and where nobody else serves a
layer, the remembered are tried all the same. Pairs of donors that cannot dial each other are remembered too.
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
PAIR_SECONDS = 600.0
"""For so long a pair that cannot dial is remembered."""

Heard = Callable[[PeerId], float]


@dataclass(frozen=True)
class _Failure:
    at: float
    times: int
    life: float
    """When the donor had started that failed: one that has started anew since is another."""
    heals: bool
    """Being heard again shows that it is well."""

    @property
    def until(self) -> float:
        return self.at + min(FIRST_SECONDS * 2.0 ** (self.times - 1), LONGEST_SECONDS)


class Suspects:
    """``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lives: dict[PeerId, float] = {}
        self._failures: dict[PeerId, _Failure] = {}
        self._pairs: dict[tuple[PeerId, PeerId], tuple[float, float]] = {}

    def relied_on(self, records: Iterable[Record]) -> None:
        """A route was planned over these."""
        self._lives |= {record.peer_id: record.started_at for record in records}

    def failed(self, peer: PeerId, *, heals: bool = True) -> None:
        """This one failed now; ``heals``: in a way that being heard again disproves. Who is left out already
        has failed no second time: nobody asked it."""
        now = self._clock()
        self._failures = {p: f for p, f in self._failures.items() if now - f.at < FORGET_SECONDS}
        known, life = self._failures.get(peer), self._lives.get(peer, 0.0)
        if known is None or known.until <= now or known.life < life:
            self._failures[peer] = _Failure(now, known.times + 1 if known else 1, life, heals)

    def among(self, records: Iterable[Record], heard: Heard = lambda _peer: 0.0) -> frozenset[PeerId]:
        """Whom to leave out; ``heard`` tells when a donor was heard last. One that was blamed for a silence
        and has been heard since is cleared, and its failure forgotten."""
        now = self._clock()
        out = set()
        for record in records:
            failure = self._failures.get(record.peer_id)
            if failure is None or now >= failure.until or record.started_at > failure.life:
                continue
            if failure.heals and heard(record.peer_id) > failure.at:
                del self._failures[record.peer_id]
                continue
            out.add(record.peer_id)
        return frozenset(out)

    def distrusts(self, peer: PeerId) -> bool:
        """Whether it failed this reader twice or more of late, in one life."""
        failure = self._failures.get(peer)
        if failure is None or self._clock() - failure.at >= FORGET_SECONDS:
            return False
        return failure.times > 1 and self._lives.get(peer, 0.0) <= failure.life

    def cannot_dial(self, one: PeerId, other: PeerId) -> None:
        """``one`` could not reach ``other``."""
        now = self._clock()
        self._pairs = {pair: known for pair, known in self._pairs.items() if now - known[0] < PAIR_SECONDS}
        life = max(self._lives.get(one, 0.0), self._lives.get(other, 0.0))
        self._pairs[one, other] = now, life

    def apart(self, records: Iterable[Record]) -> frozenset[tuple[PeerId, PeerId]]:
        """Pairs of which the first could not reach the second of late, in the lives that both are in now."""
        now = self._clock()
        lives = {record.peer_id: record.started_at for record in records}
        return frozenset(
            (one, other)
            for (one, other), (at, life) in self._pairs.items()
            if now - at < PAIR_SECONDS and max(lives.get(one, 0.0), lives.get(other, 0.0)) <= life
        )

    def again(self, records: Iterable[Record]) -> frozenset[PeerId]:
        """Who failed in an earlier life and serves now in another."""
        return frozenset(
            record.peer_id
            for record in records
            if (failure := self._failures.get(record.peer_id)) is not None
            and record.started_at > failure.life
        )
