from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from core.node.plan import (
    FINISH_SECONDS,
    PLANNED_SECONDS,
    Action,
    Begin,
    Doing,
    End,
    Go,
    Rest,
    ServeOnly,
    Stay,
    next_action,
    state_of,
)
from core.terms import Because, Budget, Leave, Reason, State

INPUT, HOT = Because(Reason.INPUT), Because(Reason.HOT)
BACK, PLANNED, FINISH = Budget(INPUT), Budget(HOT, Leave.PLANNED), Budget(HOT, Leave.FINISH)
OWN = Budget(INPUT, own_only=True)
AWAY, LOADING, SERVING = Doing(), Doing(gives=True), Doing(gives=True, serves=True)
GOING, FINISHING = replace(SERVING, leaves=Leave.PLANNED), replace(SERVING, leaves=Leave.FINISH)
KEPT = replace(SERVING, own_only=True)


@pytest.mark.parametrize(
    ("budget", "doing", "action"),
    [
        (Budget(), AWAY, Begin()),
        (Budget(), LOADING, Stay()),
        (Budget(), SERVING, Stay()),
        (Budget(rest=0.3), SERVING, Rest(0.3)),
        (Budget(), replace(SERVING, rest=0.3), Rest(0.0)),
        (Budget(rest=0.3), replace(SERVING, rest=0.3), Stay()),
        (Budget(), GOING, Stay()),
        (Budget(), KEPT, ServeOnly(False)),
        (BACK, AWAY, Stay()),
        (BACK, LOADING, End(INPUT)),
        (BACK, SERVING, End(INPUT)),
        (BACK, GOING, End(INPUT)),
        (BACK, FINISHING, End(INPUT)),
        (BACK, KEPT, End(INPUT)),
        (PLANNED, AWAY, Stay()),
        (PLANNED, LOADING, End(HOT)),
        (PLANNED, SERVING, Go(HOT, Leave.PLANNED, PLANNED_SECONDS)),
        (PLANNED, GOING, Stay()),
        (PLANNED, FINISHING, Go(HOT, Leave.PLANNED, PLANNED_SECONDS)),
        (FINISH, SERVING, Go(HOT, Leave.FINISH, FINISH_SECONDS)),
        (FINISH, GOING, Stay()),
        (FINISH, FINISHING, Stay()),
        (OWN, AWAY, Stay()),
        (OWN, LOADING, End(INPUT)),
        (OWN, SERVING, ServeOnly(True)),
        (OWN, KEPT, Stay()),
        (OWN, GOING, End(INPUT)),
    ],
)
def test_next_action(budget: Budget, doing: Doing, action: Action) -> None:
    """The whole table of what may be given and what is done."""
    assert next_action(budget, doing) == action


def test_nothing_is_served_without_a_budget() -> None:
    """Whatever it does, a reason against giving never begins anything, nor lets others be served."""
    flags = (True, False)
    for gives, serves, own, leaves in itertools.product(flags, flags, flags, (None, *Leave)):
        doing = Doing(gives, serves and gives, leaves, own and serves and gives)
        for budget in (BACK, PLANNED, FINISH, OWN):
            action = next_action(budget, doing)
            assert not isinstance(action, Begin | Rest) and action != ServeOnly(False)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_state(reason: Reason) -> None:
    """A PC that gives nothing is off, paused, in trouble or waiting, never giving."""
    assert state_of(Because(reason)) in (State.OFF, State.PAUSED, State.TROUBLE, State.WAITING)
