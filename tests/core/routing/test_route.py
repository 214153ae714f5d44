"""Routes: tables of records and what is planned from them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from core.errors import NoDonor
from core.routing.route import mend, missing, plan, predict
from core.terms import DonorState, ModelRef, PeerId, Record, Span

LAYERS = 10


def donor(
    name: str, start: int, end: int, step: float = 0.0, state: DonorState = DonorState.ONLINE
) -> Record:
    return Record(
        PeerId(name), ModelRef("m", "r", LAYERS), Span(start, end), state, 0.0, 1e12, step_seconds=step
    )


def drawn(records: list[Record], **options: object) -> list[str]:
    route = plan(records, LAYERS, **options)  # type: ignore[arg-type]
    return [f"{stage.peer_id}{stage.span}" for stage in route.stages]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([donor("a", 0, 10)], ["a0:10"]),
        ([donor("a", 0, 3), donor("b", 3, 7), donor("c", 7, 10)], ["a0:3", "b3:7", "c7:10"]),
        ([donor("a", 0, 6), donor("b", 4, 10)], ["a0:4", "b4:10"]),
        ([donor("a", 0, 6, 0.006), donor("b", 4, 10, 0.06)], ["a0:6", "b6:10"]),
        ([donor("a", 0, 6, 0.06), donor("b", 4, 10, 0.006)], ["a0:4", "b4:10"]),
        ([donor("a", 0, 10, 1.0), donor("b", 0, 5, 0.01), donor("c", 5, 10, 0.01)], ["b0:5", "c5:10"]),
        ([donor("a", 0, 5, 0.01), donor("b", 0, 5, 0.02), donor("c", 5, 10)], ["a0:5", "c5:10"]),
        ([donor("a", 0, 10), donor("z", 0, 10, state=DonorState.LEAVING)], ["a0:10"]),
    ],
)
def test_the_cheapest_cover_is_found(records: list[Record], expected: list[str]) -> None:
    """Fewer stages where compute is equal, faster donors where it is not, changes at any boundary."""
    assert sorted(drawn(records)) == sorted(expected)


def test_a_far_donor_is_passed_over() -> None:
    """A delay counts like compute, the way back from the tail to the entry included."""
    records = [donor("a", 0, 5), donor("far", 5, 10, 0.001), donor("near", 5, 10, 0.005)]
    distance = {("a", "far"): 0.05, ("far", "a"): 0.05}
    route = plan(records, LAYERS, delay=lambda one, other: distance.get((one, other), 0.001))
    assert route.tail.peer_id == "near"
    assert route.predicted_seconds == pytest.approx(0.005 + 2 * 0.0005 + 0.005 + 0.002)


def test_a_thin_upload_is_passed_over() -> None:
    """It counts for what a stage sends on, and not for the tail, which sends a token's id alone."""
    thin = replace(donor("thin", 0, 5, 0.005), upload_rate=1e6)
    wide = replace(donor("wide", 0, 5, 0.006), upload_rate=1e8)
    tail = replace(donor("tail", 5, 10, 0.005), upload_rate=1e3)
    assert plan([thin, wide, tail], LAYERS, row_bytes=0).entry.peer_id == "thin"
    route = plan([thin, wide, tail], LAYERS, row_bytes=28_672)
    assert route.entry.peer_id == "wide"
    assert route.predicted_seconds == pytest.approx(0.011 + 2 * 0.0005 + 28_672 / 1e8)
    unmeasured = donor("new", 0, 5, 0.006)
    assert plan([thin, unmeasured, tail], LAYERS, row_bytes=28_672).entry.peer_id == "new"


def test_a_loaded_donor_is_passed_over_among_equals() -> None:
    """Not for one that is far slower; and what is predicted is what was measured, load or not."""
    records = [donor("a", 0, 10, 0.01), donor("b", 0, 10, 0.01), donor("slow", 0, 10, 0.02)]
    loads = {"a": 1.3, "b": 1.1, "slow": 1.0}
    route = plan(records, LAYERS, load=lambda record: loads[record.peer_id], chance=random.Random(1))
    assert route.entry.peer_id == "b"
    assert route.predicted_seconds == pytest.approx(0.0105)


def held(record: Record, quantization: str) -> Record:
    return replace(record, quantization=quantization)


def test_of_near_equals_the_one_that_lost_least_is_taken() -> None:
    """Never at the price of a much slower answer, and whatever the kind, a donor of it serves where there is
    no other; what is predicted is what was measured."""
    records = [
        held(donor("a", 0, 10, 0.0100), "nf4"),
        held(donor("b", 0, 10, 0.0102), "int8"),
        held(donor("c", 0, 10, 0.0103), "none"),
        held(donor("d", 0, 10, 0.0100), "3 bits"),
    ]
    chance = random.Random(1)
    for expected in ("c", "b", "ad"):
        assert {plan(records, LAYERS, chance=chance).entry.peer_id for _ in range(30)} == set(expected)
        records = [record for record in records if record.peer_id != expected]
    route = plan([*records, held(donor("slow", 0, 10, 0.02), "none")], LAYERS)
    assert route.entry.peer_id in "ad"
    assert route.predicted_seconds == pytest.approx(0.0105)


def test_a_replacement_of_the_same_kind_is_preferred() -> None:
    """The text goes on as it was begun; a much faster one of another kind is taken all the same."""
    lost = held(donor("b", 3, 10, 0.01), "nf4")
    same, other = held(donor("s", 3, 10, 0.0101), "nf4"), held(donor("o", 3, 10, 0.01), "none")
    route = plan([donor("a", 0, 3), lost], LAYERS)
    avoid = {lost.peer_id}
    assert mend(route, [donor("a", 0, 3), lost, same, other], LAYERS, avoid=avoid).tail.peer_id == "s"
    # Nothing is known of what was there, where its record has run out: then the best is.
    assert mend(route, [donor("a", 0, 3), same, other], LAYERS, avoid=avoid).tail.peer_id == "o"
    fast = held(donor("f", 3, 10, 0.005), "int8")
    assert mend(route, [donor("a", 0, 3), lost, same, fast], LAYERS, avoid=avoid).tail.peer_id == "f"
    assert mend(route, [donor("a", 0, 3), lost, other], LAYERS, avoid=avoid).tail.peer_id == "o"


def test_avoided_donors_are_not_used() -> None:
    """A lost peer is gone around, or its layers are named."""
    records = [donor("a", 0, 10), donor("b", 0, 10)]
    assert drawn(records, avoid={PeerId("a")}) == ["b0:10"]
    with pytest.raises(NoDonor, match="layers 0 to 9 have no donor"):
        plan(records, LAYERS, avoid={PeerId("a"), PeerId("b")})


def test_holes_are_named_as_layers() -> None:
    """Joining donors do not count, and each hole is one span."""
    records = [donor("a", 0, 4), donor("b", 7, 9), donor("c", 4, 7, state=DonorState.JOINING)]
    assert missing(records, LAYERS) == (Span(4, 7), Span(9, 10))
    with pytest.raises(NoDonor, match="layers 4 to 6 and layer 9 have no donor"):
        plan(records, LAYERS)


def test_equal_donors_share_the_readers() -> None:
    """Chance decides among equals, and never for a much slower one."""
    records = [donor("a", 0, 10, 0.01), donor("b", 0, 10, 0.01), donor("slow", 0, 10, 0.02)]
    chance = random.Random(1)
    used = {plan(records, LAYERS, chance=chance).entry.peer_id for _ in range(60)}
    assert used == {"a", "b"}


def test_a_big_swarm_is_planned_over_soon() -> None:
    """Every plan covers all layers once, in order."""
    rng = random.Random(5)
    records = [
        donor(f"p{i}", start, min(72, start + rng.randint(3, 12)), rng.random())
        for i, start in enumerate(rng.randrange(70) for _ in range(300))
    ]
    records += [donor("first", 0, 5), donor("last", 60, 72)]
    records = [replace(r, model=ModelRef("m", "r", 72)) for r in records]
    stages = plan(records, 72).stages
    assert [s.span.start for s in stages[1:]] == [s.span.end for s in stages[:-1]]
    assert (stages[0].span.start, stages[-1].span.end) == (0, 72)


def test_a_route_is_mended_where_it_broke() -> None:
    """Who stays keeps its layers, whatever else would be faster; neighbours that go make one gap."""
    records = [
        donor("a", 0, 3),
        donor("b", 3, 6),
        donor("c", 6, 8),
        donor("d", 8, 10),
        donor("e", 2, 9, 0.07),
    ]
    route = plan(records[:4], LAYERS)
    mended = mend(route, records, LAYERS, avoid={PeerId("b"), PeerId("c")})
    assert [f"{s.peer_id}{s.span}" for s in mended.stages] == ["a0:3", "e3:8", "d8:10"]
    assert mended.predicted_seconds == pytest.approx(predict(mended.stages, records))
    with pytest.raises(NoDonor, match="layers 3 to 5 have no donor"):
        mend(route, records[:4], LAYERS, avoid={PeerId("b")})


@pytest.mark.parametrize("lost", ["a", "d"])
def test_the_ends_of_a_route_are_mended_too(lost: str) -> None:
    """Entry and tail have replicas like any other stage."""
    records = [donor("a", 0, 3), donor("b", 3, 8), donor("d", 8, 10), donor("e", 0, 3), donor("f", 8, 10)]
    route = plan([r for r in records if r.peer_id in "abd"], LAYERS)
    mended = mend(route, records, LAYERS, avoid={PeerId(lost)})
    assert len(mended.stages) == 3
    assert lost not in {stage.peer_id for stage in mended.stages}
