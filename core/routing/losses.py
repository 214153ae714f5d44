"""What a session has lost, and whose loss it is."""

from __future__ import annotations

from dataclasses import dataclass

from core.ring.frames import Breach, Broken
from core.terms import PeerId, Route

NONSENSE = frozenset({Breach.NONSENSE, Breach.INPUT})


@dataclass(frozen=True)
class Lost:
    """``peer`` is who the next route goes around, if anyone."""

    peer: PeerId | None
    why: str
    tell: bool = True
    """Whether the peer failed, so that other sessions should know."""
    heals: bool = True
    """Being heard again shows that the peer is well."""
    nonsense: bool = False
    """It computed what it should not have: of another try no more is to be hoped than of the last."""


def loss(broken: Broken, route: Route | None) -> Lost:
    """Whom the next route avoids: the next stage that cannot be reached, the one before that sent nonsense,
    or a donor that is full, leaving or computes nonsense; nobody for what a network does."""
    breach, why = broken.breach, broken.why
    if route is None or breach in {Breach.GAP, Breach.POSITION, Breach.LAPSED}:
        return Lost(None, why)
    step = {Breach.UNREACHABLE: 1, Breach.INPUT: -1}.get(breach, 0)
    peer = route.stages[(broken.stage + step) % len(route.stages)].peer_id
    nonsense = breach in NONSENSE
    return Lost(peer, why, tell=breach is not Breach.FULL, heals=not nonsense, nonsense=nonsense)
