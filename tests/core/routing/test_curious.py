"""Over whom a trial of the swarm reads."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.routing.curious import leading_over, least_known, unknown
from core.routing.route import NoDonor, plan
from core.routing.seen import Seen
from core.terms import DonorState, ModelRef, PeerId, Record, Span

LAYERS = 8
MODEL = ModelRef("m", "1", LAYERS)
ME = PeerId("me")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(name: str, start: int = 0, end: int = LAYERS, step: float = 0.01) -> Record:
    span = Span(start, end)
    return Record(PeerId(name), MODEL, span, DonorState.ONLINE, 1.0, 90.0, step_seconds=step)


def chosen(seen: Seen, *records: Record) -> str:
    one = least_known(records, seen, {ME}, random.Random(1))
    assert one is not None
    return one.peer_id


def test_who_was_never_met_comes_first_then_who_was_met_longest_ago() -> None:
    """So that nobody is taken at its word for ever."""
    clock = Clock()
    seen = Seen(clock)
    one, two, new = record("one"), record("two"), record("new")
    seen.served([one.peer_id])
    clock.now += 10
    seen.served([two.peer_id])
    assert chosen(seen, one, two, new) == "new" and unknown([one, two, new], seen, {ME})
    assert chosen(seen, one, two) == "one" and not unknown([one, two], seen, {ME})
    seen.served([one.peer_id])
    clock.now += 10
    seen.served([one.peer_id])
    assert chosen(seen, one, two) == "two"


def test_who_failed_is_tried_again_at_once_until_it_is_clear() -> None:
    """A single failure may be bad luck; after a few it is believed no more, and waits its turn as all do."""
    clock = Clock()
    seen = Seen(clock)
    bad, good = record("bad"), record("good")
    seen.failed(bad.peer_id, heals=False)
    clock.now += 10
    times = 1
    while seen.in_doubt(bad.peer_id):
        assert chosen(seen, bad, good, record("new")) == "bad" and unknown([bad], seen, {ME})
        seen.failed(bad.peer_id, heals=False)
        times += 1
    assert 1 < times < 6 and not unknown([bad], seen, {ME})
    assert chosen(seen, bad, good) == "good"
    seen.failed(good.peer_id, heals=False)
    seen.served([good.peer_id])
    assert not seen.in_doubt(good.peer_id)


def test_nobody_is_tried_that_does_not_serve_or_is_this_pc() -> None:
    """There is nothing to learn of them."""
    joining = replace(record("joining"), state=DonorState.JOINING)
    seen = Seen(Clock())
    assert least_known([record(ME), joining], seen, {ME}, random.Random(1)) is None
    assert not unknown([record(ME), joining], seen, {ME})


SPANS = st.tuples(st.integers(0, LAYERS - 1), st.integers(1, LAYERS)).map(
    lambda pair: (pair[0], min(pair[0] + pair[1], LAYERS))
)


@given(st.lists(SPANS, min_size=1, max_size=8), st.integers(0, 1000))
def test_every_route_that_is_left_leads_over_it(spans: list[tuple[int, int]], seed: int) -> None:
    """However slow it is; and nobody holds more than before."""
    slow = record("slow", *spans[0], step=100.0)
    records = [slow, *(record(f"d{n}", *span) for n, span in enumerate(spans))]
    cut = leading_over(slow, records, random.Random(seed))
    before = {one.peer_id: one.span for one in records}
    assert slow in cut and all(one.span in before[one.peer_id] for one in cut)
    try:
        route = plan(cut, LAYERS)
    except NoDonor:
        return
    assert any(stage.peer_id == "slow" for stage in route.stages)


def test_a_donor_that_others_can_do_without_is_met() -> None:
    """Though each of them holds all that it holds."""
    slow = record("slow", 2, 4, step=1.0)
    records = [slow, record("a"), record("b", 0, 3), record("c", 3, 8), record("d", 0, 2), record("e", 4, 8)]
    for seed in range(8):
        route = plan(leading_over(slow, records, random.Random(seed)), LAYERS)
        assert "slow" in [stage.peer_id for stage in route.stages]
    with pytest.raises(NoDonor):
        plan(leading_over(slow, [slow, record("a", 0, 3)], random.Random(1)), LAYERS)
