from __future__ import annotations

from dataclasses import replace

import pytest

from core.terms import DonorState, ModelRef, PeerId, Record, Route, Span, Stage
from webchat.legs import Leg, expected_rate, legs

MODEL = ModelRef("m", "r", 10)
A, B = PeerId("12D3KooWaaaaaaAAAAAA"), PeerId("12D3KooWbbbbbbBBBBBB")


def record(peer: PeerId, start: int, end: int, **changes: object) -> Record:
    made = Record(peer, MODEL, Span(start, end), DonorState.ONLINE, 0, 90, step_seconds=0.01)
    return replace(made, **changes)  # type: ignore[arg-type]


ROUTE = Route((Stage(A, Span(0, 4)), Stage(B, Span(4, 10))))


def test_a_leg_costs_its_part_of_the_donors_span() -> None:
    """Compute by layers, the way to the next as measured, and how the donor is reached."""
    records = [
        record(A, 0, 8, near=((B[-6:], 0.03),)),
        record(B, 4, 10, reach="relay", step_seconds=0.012),
    ]
    assert legs(ROUTE, records) == (
        Leg(pytest.approx(0.005), pytest.approx(0.015), "public"),  # type: ignore[arg-type]
        Leg(pytest.approx(0.012), pytest.approx(0.015), "relay"),  # type: ignore[arg-type]
    )


def test_what_nobody_measured_is_not_told() -> None:
    """Neither delays without coordinates, nor anything of a donor that is gone."""
    assert legs(ROUTE, [record(A, 0, 8, step_seconds=0.0)]) == (Leg(None, None, "public"), None)


def test_one_donor_has_no_way_to_go() -> None:
    """A stage alone hands its tokens to itself."""
    alone = Route((Stage(A, Span(0, 10)),))
    (leg,) = legs(alone, [record(A, 0, 10)])
    assert leg is not None and leg.hop is None


def test_the_expected_rate_is_that_of_the_best_route() -> None:
    """None where the model is not whole."""
    whole = [record(A, 0, 10), record(B, 0, 10, step_seconds=1.0)]
    assert expected_rate(MODEL, whole) == pytest.approx(1 / 0.0105)
    assert expected_rate(MODEL, [record(A, 0, 9)]) is None


def test_no_rate_is_made_up() -> None:
    """Until donors have measured their speed, and the ways to each other, nothing is expected."""
    near = record(A, 0, 5, near=((B[-6:], 0.02),))
    assert expected_rate(MODEL, [near, record(B, 5, 10)]) == pytest.approx(1 / (0.02 + 0.001 + 0.02))
    assert expected_rate(MODEL, [record(A, 0, 5), record(B, 5, 10)]) is None
    assert expected_rate(MODEL, [near, record(B, 5, 10, step_seconds=0.0)]) is None
