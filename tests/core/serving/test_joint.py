"""Where all donors of a small swarm would go together."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.serving.joint import Member, carries, together
from core.terms import PeerId, Span

LAYERS = 6
EVEN = (1 / LAYERS,) * LAYERS


def member(name: str, length: int, work: float = 1.0, at: Span | None = None) -> Member:
    ends = tuple(min(start + length, LAYERS) for start in range(LAYERS))
    return Member(PeerId(name), ends, work, at)


MEMBERS = st.lists(st.tuples(st.integers(1, 4), st.floats(0.2, 5.0)), min_size=1, max_size=4).map(
    lambda found: tuple(member(f"d{n}", length, work) for n, (length, work) in enumerate(found))
)


def best(members: tuple[Member, ...]) -> float:
    """Of all placements."""
    places = [[span for start in range(LAYERS) if (span := one.span(start)) is not None] for one in members]
    return max(
        carries([(span, one.work) for span, one in zip(spans, members, strict=True)], EVEN)
        for spans in product(*places)
    )


@settings(max_examples=25, deadline=None)
@given(MEMBERS)
def test_the_sweep_is_near_the_best_placement(members: tuple[Member, ...]) -> None:
    """It holds the whole model wherever that can be, and carries at least four fifths of the most."""
    found, most = together(members, EVEN), best(members)
    held = [(s, one.work) for s, one in zip(found.spans, members, strict=True) if s is not None]
    assert (found.rate > 0) == (most > 0)
    assert carries(held, EVEN) >= 0.8 * most


@given(MEMBERS)
def test_who_stands_where_the_sweep_put_it_stays(members: tuple[Member, ...]) -> None:
    """A swarm that has gone there has nowhere else to go."""
    first = together(members, EVEN)
    there = tuple(
        Member(one.name, one.ends, one.work, span) for one, span in zip(members, first.spans, strict=True)
    )
    if first.rate > 0:
        again = together(there, EVEN)
        assert carries(_held(there), EVEN) >= 0.99 * again.rate * 0.97


def _held(members: tuple[Member, ...]) -> list[tuple[Span, float]]:
    return [(one.at, one.work) for one in members if one.at is not None]


@pytest.mark.parametrize(
    ("held", "rate"),
    [
        ([(Span(0, 6), 3.0)], 3.0),
        ([(Span(0, 3), 1.0), (Span(3, 6), 1.0)], 2.0),
        ([(Span(0, 3), 1.0), (Span(2, 6), 1.0)], 2.0),
        ([(Span(0, 2), 1.0), (Span(2, 6), 1.0)], 1.5),
        ([(Span(0, 2), 9.0), (Span(1, 3), 1.0), (Span(4, 6), 9.0), (Span(2, 5), 1.0)], 6.0),
        ([(Span(0, 5), 9.0)], 0.0),
    ],
    ids=["one", "halves", "overlapping", "unequal", "the middle is slow", "a hole"],
)
def test_what_spans_carry(held: list[tuple[Span, float]], rate: float) -> None:
    """Readers share the work out as well as it can be."""
    assert carries(held, EVEN) == pytest.approx(rate, rel=1e-3)


def test_donors_that_barely_suffice_are_found_their_places() -> None:
    """The head leaves room for little beside it, and only one order of these holds all."""
    ends = {3: (3, 4, 5, 5, 5, 6), 2: (2, 3, 4, 5, 5, 6), 1: (1, 2, 3, 4, 5, 6)}
    members = tuple(Member(PeerId(f"d{n}"), ends[length], 1.0) for n, length in enumerate((3, 2, 1)))
    found = together(members, EVEN)
    assert found.rate > 0
    assert max(span.end for span in found.spans if span is not None) == LAYERS
