"""Where a donor goes: tables of small swarms, and what must hold in any."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.model.cost import LayerCost
from core.serving.choose import (
    WAIT_SECONDS,
    Choice,
    Hand,
    Why,
    alone,
    among,
    carried,
    choose,
    left_to_others,
    may_go,
)
from core.serving.levels import WINDOW_SECONDS, Levels, levels, rank, share, turn
from core.terms import DonorState, ModelRef, PeerId, Record, Span

LAYERS = 8
MODEL = ModelRef("m", "1", LAYERS)
ME = PeerId("me")


def record(
    name: str, start: int, end: int, step: float = 0.0, state: DonorState = DonorState.ONLINE
) -> Record:
    return Record(PeerId(name), MODEL, Span(start, end), state, 1000.0, 1090.0, step or 0.01 * (end - start))


def hand(length: int, serving: Span | None = None, *, disk: int = 1, stay: float = 36_000.0) -> Hand:
    table = (LayerCost(1, 0, disk, 0, 0.01),) * LAYERS
    ends = tuple(min(start + length, LAYERS) for start in range(LAYERS))
    return Hand(table, ends, serving, serving, fetch_rate=1.0, load_rate=1.0, stay=stay, replay_seconds=1.0)


@dataclass(frozen=True)
class Known:
    """Of some donors, more or less than of a stranger."""

    trusted: dict[str, float] = field(default_factory=dict)
    proofs: frozenset[str] = frozenset()
    usual: float = 0.5

    def trust(self, peer: PeerId) -> float:
        return self.trusted.get(peer, self.usual)

    def proved(self, peer: PeerId) -> bool:
        return peer in self.proofs


LIAR = Known({"liar": 0.0})


def chosen(records: list[Record], mine: Hand, lot: float = 0.0) -> Choice | None:
    return choose(levels(records, LAYERS, ME, 1001.0), mine, lot, random.Random(1))


@pytest.mark.parametrize(
    ("records", "length", "span"),
    [
        ([], 8, "0:8"),
        ([record("a", 0, 3)], 3, "3:6|5:8"),
        ([record("a", 0, 3), record("b", 3, 6)], 3, "5:8"),
        ([record("a", 0, 3), record("b", 5, 8)], 2, "3:5"),
        ([record("a", 0, 8), record("b", 0, 5)], 3, "5:8"),
        ([record("a", 0, 8), record("b", 0, 4), record("c", 4, 8, step=4.0)], 4, "4:8"),
    ],
    ids=["alone", "beside the first", "the last hole", "between two", "the weak end", "beside a slow one"],
)
def test_a_joining_donor_fills_holes_then_strengthens(records: list[Record], length: int, span: str) -> None:
    """Holes first, kept together; then the layers with the least throughput."""
    choice = chosen(records, hand(length))
    assert choice is not None and choice.why is Why.JOIN and str(choice.span) in span.split("|")


def test_nothing_that_fits_is_no_choice() -> None:
    """The words for that are ``fit``'s."""
    assert chosen([], hand(0)) is None


@pytest.mark.parametrize(
    ("state", "now", "held"),
    [
        (DonorState.ONLINE, 1001.0, 1),
        (DonorState.JOINING, 1001.0, 1),
        (DonorState.JOINING, 1500.0, 0),
        (DonorState.LEAVING, 1001.0, 0),
    ],
)
def test_who_holds_a_layer(state: DonorState, now: float, held: int) -> None:
    """One that is joining does, unless it is long overdue; one that leaves no longer does."""
    assert levels([record("a", 0, 8, state=state)], LAYERS, ME, now).held == (held,) * LAYERS


def test_claims_are_discounted() -> None:
    """By trust, and to what is plausible beside the others; one that failed holds nothing."""
    records = [record("a", 0, 8), record("b", 0, 8), record("liar", 0, 8, step=1e-9)]
    seen = levels(records, LAYERS, ME, 1001.0, Known(usual=1.0))
    assert seen.rates[0] == pytest.approx(3 * 100 / 8)
    seen = levels(records, LAYERS, ME, 1001.0, LIAR)
    assert seen.rates[0] == pytest.approx(100 / 8) and seen.held[0] == 2


def test_a_hole_behind_a_liar_is_seen_once_it_failed() -> None:
    """A span that is claimed and not served does not keep donors away for long."""
    records = [record("a", 0, 4), record("liar", 4, 8)]
    seen = levels(records, LAYERS, ME, 1001.0, LIAR)
    choice = choose(seen, hand(4), 0.0, random.Random(1))
    assert choice is not None and choice.span.end > 4


def steady(rates: list[float], held: list[int]) -> Levels:
    return Levels(tuple(rates), tuple(held), tuple(held), 4, 0.5)


def test_a_donor_that_is_not_needed_fills_a_hole() -> None:
    """In its turn, and not before."""
    seen = steady([50.0] * 4 + [0.0] * 4, [2] * 4 + [0] * 4)
    assert choose(seen, hand(4, Span(0, 4)), 0.0, random.Random(1)) == Choice(Span(4, 8), Why.HOLE)
    assert choose(seen, hand(4, Span(0, 4)), 0.9, random.Random(1)) == Choice(Span(0, 4), Why.KEEP)


def test_a_hole_is_not_filled_by_opening_another() -> None:
    """The last donor of a layer keeps it, but may slide where the layers that it leaves are held."""
    seen = steady([0.0] * 4 + [50.0] * 2 + [0.0] * 2, [0] * 4 + [1] * 2 + [0] * 2)
    choice = choose(seen, hand(2, Span(0, 2)), 0.0, random.Random(1))
    assert choice == Choice(Span(0, 2), Why.KEEP)
    seen = steady([50.0, 50.0, 0.0, 0.0, 50.0, 50.0, 50.0, 50.0], [1, 1, 0, 0, 1, 1, 1, 1])
    choice = choose(seen, hand(2, Span(1, 3)), 0.0, random.Random(1))
    assert choice == Choice(Span(2, 4), Why.HOLE)


@pytest.mark.parametrize(
    ("disk", "stay", "moves"), [(1, 36_000.0, True), (10_000, 36_000.0, False), (1, 20.0, False)]
)
def test_a_move_has_to_repay_itself(disk: int, stay: float, moves: bool) -> None:
    """Download, loading and replay against the gain for the rest of the stay."""
    seen = steady([100.0] * 4 + [10.0] * 4, [3] * 8)
    choice = choose(seen, hand(4, Span(0, 4), disk=disk, stay=stay), 0.0, random.Random(1))
    assert choice is not None and (choice.why is Why.WEAK) == moves


def test_levels_that_are_even_enough_move_nobody() -> None:
    """A few percent are not worth a download."""
    seen = steady([100.0] * 4 + [98.0] * 4, [3] * 8)
    choice = choose(seen, hand(4, Span(0, 4)), 0.0, random.Random(1))
    assert choice == Choice(Span(0, 4), Why.KEEP)


def test_turns_are_dealt_evenly_and_anew() -> None:
    """Everyone computes the same lots, and nobody is always first."""
    lots = [turn(PeerId(f"peer {number}"), 7) for number in range(1000)]
    assert 0.45 < sum(lots) / 1000 < 0.55 and min(lots) >= 0 and max(lots) < 1
    assert turn(ME, 7) == turn(ME, 7) != turn(ME, 8)
    assert share(1, 1000, 1000) < share(1, 1000, 10) <= 0.5


SPANS = st.tuples(st.integers(0, LAYERS - 1), st.integers(1, LAYERS)).map(
    lambda pair: (pair[0], min(pair[0] + pair[1], LAYERS))
)
SWARMS = st.lists(st.tuples(SPANS, st.floats(0.001, 1.0)), max_size=12).map(
    lambda found: [record(f"d{n}", *span, step=step) for n, (span, step) in enumerate(found)]
)


@settings(max_examples=40)
@given(SWARMS, st.integers(1, LAYERS), SPANS, st.integers(0, 1000))
def test_a_move_never_opens_a_hole(
    records: list[Record], length: int, span: tuple[int, int], seed: int
) -> None:
    """In a swarm that holds the whole model every layer that is left is held by someone who does not move
    now."""
    seen, serving = levels(records, LAYERS, ME, 1001.0), Span(*span)
    assume(all(held or layer in serving for layer, held in enumerate(seen.held)))
    choice = choose(seen, hand(length, serving), 0.0, random.Random(seed))
    assert choice is not None
    assert all(seen.steady[n] > 0 for n in range(serving.start, serving.end) if n not in choice.span)


@settings(max_examples=40)
@given(SWARMS, st.integers(1, LAYERS), st.integers(0, 1000))
def test_no_other_place_fills_more_holes(records: list[Record], length: int, seed: int) -> None:
    """Of a joining donor, against every place that it could take, where all together cannot hold the
    model."""
    seen, mine = levels(records, LAYERS, ME, 1001.0), hand(length)
    assume(sum(len(one.span) for one in records) + length < LAYERS)
    choice = choose(seen, mine, 0.0, random.Random(seed))
    assert choice is not None
    filled = seen.held[choice.span.start : choice.span.end].count(0)
    assert filled == max(seen.held[start:end].count(0) for start, end in enumerate(mine.ends))


def decided(records: list[Record], seed: int) -> list[Span]:
    """What all take after one window in which all look at the same records."""
    found = []
    for one in records:
        seen = levels(records, LAYERS, one.peer_id, 1001.0)
        lot = turn(one.peer_id, int(1001.0 // 60))
        choice = choose(seen, hand(len(one.span), one.span), lot, random.Random(seed))
        assert choice is not None
        found.append(choice.span)
    return found


def count(spans: list[Span]) -> list[int]:
    return [sum(layer in span for span in spans) for layer in range(LAYERS)]


@settings(max_examples=40)
@given(SWARMS, st.integers(0, 50))
def test_two_donors_of_a_layer_do_not_leave_it_at_once(records: list[Record], seed: int) -> None:
    """Whatever all decide from the same records in one window, a model that was whole still is."""
    assume(all(count([one.span for one in records])))
    assert all(count(decided(records, seed)))


@settings(max_examples=40)
@given(SWARMS, st.integers(0, 50))
def test_donors_enough_for_the_model_come_to_hold_it(records: list[Record], seed: int) -> None:
    """In one window: while nobody can be served all go at once, each where the others expect it."""
    assume(sum(len(one.span) for one in records) >= LAYERS)
    assert all(count(decided(records, seed)))


def test_a_filled_hole_moves_as_few_as_can_be() -> None:
    """A donor that is not needed where it is fills the hole; those beside it stay."""
    records = [record("a", 0, 2), record("b", 2, 4), record("c", 6, 8), record("d", 6, 8)]
    spans = decided(records, 1)
    assert spans[:2] == [Span(0, 2), Span(2, 4)] and sorted(spans[2:]) == [Span(4, 6), Span(6, 8)]


def going(one: Record, start: int, end: int) -> Record:
    return replace(one, going=Span(start, end))


def test_a_donor_on_its_way_fills_the_hole_already() -> None:
    """It fetches: nobody else goes there, and nobody counts on it where it still is."""
    records = [record("a", 0, 4), going(record("b", 0, 4), 4, 8)]
    seen = levels(records, LAYERS, ME, 1001.0)
    assert seen.held == (1,) * 8 and seen.served == (2,) * 4 + (0,) * 4
    lower = next(PeerId(f"{n}") for n in range(99) if rank(PeerId("b")) < rank(PeerId(f"{n}")))
    higher = next(PeerId(f"{n}") for n in range(99) if rank(PeerId("b")) > rank(PeerId(f"{n}")))
    assert all(levels(records[1:], LAYERS, lower, now).steady == (0,) * 8 for now in range(1001, 2000, 60))
    assert any(levels(records[1:], LAYERS, higher, now).steady[0] for now in range(1001, 2000, 60))


def test_who_has_fetched_waits_until_nobody_needs_it_where_it_is() -> None:
    """Unless nobody can be served anyway."""
    alone = levels([record("a", 0, 4), record("b", 4, 8)], LAYERS, ME, 1001.0)
    assert may_go(alone, Span(4, 8), Span(0, 4))
    last = levels([record("a", 0, 4), record("c", 0, 4)], LAYERS, ME, 1001.0)
    assert not may_go(last, Span(4, 8), Span(0, 4))
    broken = levels([record("a", 0, 3)], LAYERS, ME, 1001.0)
    assert may_go(broken, Span(4, 8), Span(0, 4), known=False)


def test_others_are_counted_on_by_turns_while_a_hole_stays() -> None:
    """Ten minutes at first, then ten without and ten with, the same for all."""
    assert not any(alone(WAIT_SECONDS, now) for now in range(0, 9000, 60))
    turns = [alone(WAIT_SECONDS + 1, now) for now in range(0, 2400, 600)]
    assert turns in ([False, True] * 2, [True, False] * 2)


@pytest.mark.parametrize("step", [0.0, 5e-324, 1e-300, 1e14])
@pytest.mark.parametrize("liars", [1, 3, 6])
def test_absurd_speeds_neither_break_nor_draw_the_choice(step: float, liars: int) -> None:
    """Of no time, or of ages: a newcomer still goes where honest donors are fewest."""
    honest = [record(f"honest {n}", 0, 4) for n in range(9)] + [record(f"weak {n}", 4, 8) for n in range(2)]
    lying = [replace(record(f"liar {n}", 4, 8), step_seconds=step) for n in range(liars)]
    seen = levels([*honest, *lying], LAYERS, ME, 1001.0)
    assert all(0 <= rate < 1e9 for rate in seen.rates)
    choice = choose(seen, hand(4), 0.0, random.Random(1))
    assert choice is not None and choice.why is Why.JOIN
    if liars < 3:
        assert choice.span == Span(4, 8)


def test_what_is_left_is_held_by_those_who_are_counted_on() -> None:
    """Others keep what lies beside it; one that was not found to serve is not counted on."""
    records = [record("a", 0, 4), record("b", 4, 8), going(record("c", 1, 6), 0, 5), record("me", 2, 6)]
    low = next(PeerId(f"{n}") for n in range(99) if rank(PeerId("c")) < rank(PeerId(f"{n}")))
    records[3] = replace(records[3], peer_id=low)
    windows = (levels(records, LAYERS, low, now) for now in range(1001, 9000, 60))
    seen = next(one for one in windows if len(one.stays) == 2)
    left = {one.peer_id: one.span for one in left_to_others(seen, records, Span(2, 6), Span(4, 8))}
    assert left == {"a": Span(0, 4), "b": Span(4, 8), "c": Span(4, 6), low: Span(4, 6)}
    assert may_go(among(seen, [PeerId("a")]), Span(2, 6), Span(4, 8))
    assert not may_go(among(seen, [PeerId("b")]), Span(2, 6), Span(4, 8))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000))
def test_no_layer_is_left_alone_however_late_records_are(seed: int) -> None:
    """Donors that all want to leave say so at any time, read records up to 20 s old and words over those who
    serve, and take up to 20 s to go: the model stays whole."""
    chance = random.Random(seed)
    names = [PeerId(f"{seed} {number}") for number in range(6)]
    spans = {name: [(0.0, Span(0, 4) if number % 2 else Span(4, 8))] for number, name in enumerate(names)}
    says = {name: chance.uniform(0, 120) for name in names}
    goal = {name: Span(2, 6) for name in names}
    asks = [(says[n] + k * 30 + chance.uniform(0, 30), n) for n in names for k in range(2, 12)]
    leaves: dict[PeerId, float] = {}

    def at(name: PeerId, when: float) -> Span:
        return next(span for since, span in reversed(spans[name]) if since <= max(when, 0.0))

    for now, me in sorted(asks):
        if me in leaves:
            continue
        records = []
        for name in names:
            told = now - chance.uniform(0, 20)
            span = at(name, told)
            one = replace(record(name, span.start, span.end), expires_at=9000.0)
            on_its_way = says[name] <= told and span != goal[name]
            records.append(replace(one, going=goal[name]) if on_its_way else one)
        # It has read a few words over those on whom it counts: who had gone by then did not answer.
        there = [one.peer_id for one in records if at(one.peer_id, now) == one.span]
        seen = among(levels(records, LAYERS, me, 1000 + now), there)
        if may_go(seen, at(me, now), goal[me]):
            leaves[me] = now + chance.uniform(0, 20)
            spans[me].append((leaves[me], goal[me]))
    for now in leaves.values():
        held = [at(name, now) for name in names]
        assert all(any(layer in span for span in held) for layer in range(LAYERS))


spans_of_donors = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 6), st.floats(0.1, 10)).map(
        lambda one: (Span(min(one[0], one[1] - 1), max(one[0] + 1, one[1])), one[2])
    ),
    max_size=6,
)


@given(spans_of_donors, st.lists(st.floats(0.1, 5), min_size=6, max_size=6))
def test_what_a_swarm_carries_is_bounded_by_its_slowest_run(
    spans: list[tuple[Span, float]], weights: list[float]
) -> None:
    """Of every run of layers: the work of all donors that touch it, over what a step costs there; nothing
    where a layer has no donor."""
    slowest = min(
        sum(
            rate * sum(weights[span.start : span.end])
            for span, rate in spans
            if span.start < end and start < span.end
        )
        / sum(weights[start:end])
        for start in range(6)
        for end in range(start + 1, 7)
    )
    assert carried(spans, weights) == pytest.approx(slowest, rel=1e-6, abs=1e-6)


def test_a_boast_keeps_nobody_away() -> None:
    """A donor that claims a hundred times what is usual alone holds half of a small swarm: the next one
    comes to its layers too, and not only to those of two plain donors."""
    plain = [record("a", 0, 4), record("b", 0, 4)]
    boast = record("c", 4, 8, step=0.0004)
    choice = chosen([*plain, boast], hand(4))
    assert choice is not None and choice.span.end > 4


def test_of_a_sample_small_differences_are_chance() -> None:
    """Where a key is full nobody moves for what another sample may show the other way round; for what is well
    beyond that a donor moves."""

    def seen(weak: int) -> Levels:
        strong = [record(f"a{n}", 0, 4) for n in range(560 - weak)]
        return levels([*strong, *(record(f"b{n}", 4, 8) for n in range(weak))], LAYERS, ME, 1001.0)

    def moves(of: Levels) -> bool:
        choice = choose(of, hand(4, Span(0, 4)), 0.0, random.Random(1))
        return choice is not None and choice.why is Why.WEAK

    assert not moves(seen(250)) and moves(replace(seen(250), blur=()))
    assert moves(seen(120))


def test_a_claim_that_is_out_of_reach_counts_as_usual() -> None:
    """A boast, within limits, would make all others stand elsewhere."""
    records = [record(f"p{number}", 0, 4, step=0.004) for number in range(3)]
    for claimed, counts in ((0.002, 2.0), (0.0004, 1.0), (0.000004, 1.0)):
        seen = levels([*records, record("fast", 4, 8, step=claimed)], LAYERS, ME, 0.0)
        rates = {held.peer: held.rate for held in seen.spans}
        assert rates["fast"] == pytest.approx(counts * rates["p0"])


def test_what_was_seen_to_be_so_fast_counts_as_that() -> None:
    """Cards differ more than boasts are allowed to."""
    records = [*(record(f"p{number}", 0, 4, step=0.004) for number in range(3)), record("fast", 4, 8, 0.0005)]
    for proofs, counts in ((frozenset[str](), 1.0), (frozenset({"fast"}), 8.0)):
        seen = levels(records, LAYERS, ME, 0.0, Known(proofs=proofs))
        rates = {held.peer: (held.rate, held.surely) for held in seen.spans}
        assert rates["fast"] == pytest.approx([counts * one for one in rates["p0"]])
        assert seen.rates[7] == pytest.approx(counts * rates["p0"][0])


def stuck_swarm() -> list[Record]:
    """Layers 0 to 4 are weak, and whoever would go there first by what all see believes a donor that the
    others found out."""
    return [record("a", 0, 4), *(record(f"b{n}", 4, 8) for n in range(4)), record(ME, 4, 8)]


def test_who_waits_for_others_in_vain_goes_by_itself() -> None:
    """Where all together would be better elsewhere, but the first of them sees that otherwise and stays: by
    turns, and only where nobody is on the way."""
    records = stuck_swarm()
    moves: dict[bool, set[bool]] = {True: set(), False: set()}
    for minute in range(200):
        now = minute * WINDOW_SECONDS
        seen = levels(records, LAYERS, ME, now)
        own_turn = bool(now // WAIT_SECONDS % 2)
        lot = turn(ME, int(now // WINDOW_SECONDS))
        first = min(["b0", "b1", "b2", "b3", ME], key=lambda name: turn(PeerId(name), seen.window)) == ME
        if first or lot >= seen.limit:
            continue
        choice = choose(seen, hand(4, Span(4, 8)), lot, random.Random(minute))
        moves[own_turn].add(choice is not None and choice.why is Why.WEAK)
    assert moves == {True: {True}, False: {False}}


def test_who_fetches_what_nobody_has_goes_on_with_it() -> None:
    """Else, where donors know different things of each other, what is best together changes faster than
    anything can be fetched; a place with more holes is worth it."""
    records = [record("z", 4, 8), going(record(ME, 0, 2), 4, 8)]
    seen = levels(records, LAYERS, ME, 0.0)
    for held, span in ((seen.held, Span(0, 4)), ((1, 1, 1, 1, 0, 0, 0, 0), Span(4, 8))):
        choice = choose(replace(seen, held=held), hand(4, Span(4, 8)), 0.0, random.Random(1))
        assert choice is not None and choice.span == span
    there = levels([records[0], record(ME, 4, 8)], LAYERS, ME, 0.0)
    choice = choose(replace(there, held=(1, 1, 1, 1, 0, 0, 0, 0)), hand(4, Span(4, 8)), 0.0, random.Random(1))
    assert choice is not None and choice.span == Span(0, 4)


def test_the_head_is_weighed_with_what_it_costs() -> None:
    """A boast of who holds nothing but that is as far out as of who holds blocks; the words cost nothing."""
    weights = [0.0, *[1.0] * (LAYERS - 2), 3.0]
    records = [record(f"p{number}", 1, 7, step=0.006) for number in range(3)]
    for step, rate in ((0.003, 1000 / 3), (0.0003, 1000 / 3), (0.0015, 2000 / 3)):
        known = [*records, record("head", 7, 8, step=step), record("words", 0, 1, step=0.001)]
        seen = levels(known, LAYERS, ME, 0.0, Known(usual=1.0), weights=weights)
        assert seen.rates[7] == pytest.approx(rate)
