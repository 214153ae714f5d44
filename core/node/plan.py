"""The node's next step as a donor: from what may be given and what its worker does. Pure.

The loop (``core.node.loop``) carries it out, and asks again when anything has changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.terms import Because, Budget, Leave, Reason, State

PLANNED_SECONDS = 30.0
FINISH_SECONDS = 600.0
"""How long readers have where this PC leaves as planned, and where its owner said to finish first."""


@dataclass(frozen=True)
class Doing:
    """What the donor's side does. ``gives``: it serves, fetches, loads, or waits to try again."""

    gives: bool = False
    serves: bool = False
    leaves: Leave | None = None
    own_only: bool = False
    rest: float = 0.0


@dataclass(frozen=True)
class Stay:
    """Go on as it is."""


@dataclass(frozen=True)
class Begin:
    """Serve what fits."""


@dataclass(frozen=True)
class End:
    """Be gone within a second, whoever reads."""

    because: Because


@dataclass(frozen=True)
class Go:
    """Leave as planned: readers move while it serves."""

    because: Because
    how: Leave
    seconds: float


@dataclass(frozen=True)
class ServeOnly:
    """Serve this PC's own sessions alone, or everyone again."""

    own: bool


@dataclass(frozen=True)
class Rest:
    """Have the device rest for this part of the time."""

    part: float


Action = Stay | Begin | End | Go | ServeOnly | Rest


def next_action(budget: Budget, doing: Doing) -> Action:
    because = budget.because
    if because is None:
        return _give(budget, doing)
    if not doing.gives:
        return Stay()
    if budget.own_only and doing.serves and doing.leaves is None:
        return Stay() if doing.own_only else ServeOnly(True)
    if budget.leave is Leave.AT_ONCE or not doing.serves:
        return End(because)
    if doing.leaves in (None, Leave.FINISH) and budget.leave is Leave.PLANNED:
        return Go(because, Leave.PLANNED, PLANNED_SECONDS)
    if doing.leaves is None:
        return Go(because, Leave.FINISH, FINISH_SECONDS)
    return Stay()


def _give(budget: Budget, doing: Doing) -> Action:
    if not doing.gives:
        return Begin()
    if doing.leaves is not None or not doing.serves:
        return Stay()  # one that leaves cannot be called back: the next round begins anew
    if doing.own_only:
        return ServeOnly(False)
    return Rest(budget.rest) if budget.rest != doing.rest else Stay()


_STATES = {
    Reason.NO_CONSENT: State.OFF,
    Reason.PAUSED: State.PAUSED,
    Reason.GPU_LOST: State.TROUBLE,
    Reason.NO_DEVICE: State.TROUBLE,
    Reason.NO_NETWORK: State.TROUBLE,
}


def state_of(because: Because) -> State:
    """How a PC that gives nothing for this reason shows itself."""
    return _STATES.get(because.kind, State.WAITING)
