"""What a reader learns of donors by the time that answers took."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.routing.seen import LEAST_ROUNDS, Experience, Pace, Part, usual
from core.terms import DonorState, ModelRef, PeerId, Record, Span

MODEL = ModelRef("m", "1", 24)
TRUE = 0.01
"""Seconds that each donor takes for a layer."""
DONORS = [PeerId(f"{band} {number}") for band in range(3) for number in range(4)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(peer: PeerId, claims: float = TRUE) -> Record:
    start = 8 * int(peer.split()[0])
    return Record(peer, MODEL, Span(start, start + 8), DonorState.ONLINE, 1.0, 90.0, step_seconds=8 * claims)


def read(
    known: Experience, records: list[Record], chance: random.Random, slow: float = 1.0, rounds: int = 32
) -> None:
    """An answer over one donor of each band, as they do in truth."""
    parts = [
        Part(one.peer_id, 8, max(one.step_seconds / 8, 1e-6))
        for one in (chance.choice(records[first : first + 4]) for first in (0, 4, 8))
    ]
    took = slow * (0.06 * chance.uniform(0.7, 1.5) + sum(8 * TRUE * chance.uniform(0.8, 1.3) for _ in parts))
    known.answered(parts, rounds, 0.06, took, records)


@pytest.mark.parametrize("boast", [10.0, 1000.0, 1e300])
@pytest.mark.parametrize("slow", [1.0, 5.0], ids=["quiet", "busy"])
def test_a_boaster_is_found_out_and_nobody_else(boast: float, slow: float) -> None:
    """By what whole rounds took, even where this PC is slow."""
    known, chance = Experience(Clock()), random.Random(1)
    records = [record(peer, TRUE / boast if peer == "1 2" else TRUE) for peer in DONORS]
    for _ in range(24):
        read(known, records, chance, slow)
    believed = known.seen.believed(records)
    wrong = {one.peer_id for one, before in zip(believed, records, strict=True) if one != before}
    assert wrong == {"1 2"}
    told = next(one for one in believed if one.peer_id == "1 2")
    assert 8 * TRUE / 3 < told.step_seconds < 8 * TRUE * 3


def test_who_keeps_its_word_is_proved_and_a_boaster_is_not() -> None:
    """Also one that is far faster than the others."""
    known, chance = Experience(Clock()), random.Random(4)
    claims = {"1 2": TRUE / 10, "1 1": TRUE / 4}
    records = [record(peer, claims.get(peer, TRUE)) for peer in DONORS]
    assert not any(map(known.proved, DONORS))
    for _ in range(60):
        chosen = [chance.choice(records[first : first + 4]) for first in (0, 4, 8)]
        parts = [Part(one.peer_id, 8, one.step_seconds / 8) for one in chosen]
        true = [TRUE / 4 if one.peer_id == "1 1" else TRUE for one in chosen]
        took = 0.06 * chance.uniform(0.7, 1.5) + sum(8 * one * chance.uniform(0.8, 1.2) for one in true)
        known.answered(parts, 32, 0.06, took, records)
    assert [peer for peer in DONORS if not known.proved(peer)] == ["1 2"]


@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0, 8.0]), max_size=7))
def test_what_is_common_is_the_middle_one_of_all_others(slow: list[float]) -> None:
    """Whoever is asked about; of a stranger, of all."""
    seen = Experience(Clock()).seen
    peers = [PeerId(f"{number}") for number in range(len(slow))]
    for peer, times in zip(peers, slow, strict=True):
        one = seen._of(peer, TRUE)
        one.seconds, one.timed = times * TRUE, True
    for but in [*peers, PeerId("stranger")]:
        others = sorted(times for peer, times in zip(peers, slow, strict=True) if peer != but)
        expected = max(1.0, others[(len(others) - 1) // 2]) if others else 1.0
        assert seen._common(but) == pytest.approx(expected)


def test_nobody_is_doubted_for_what_happens_to_all() -> None:
    """Rounds far longer than all claims together, by this PC's fault."""
    known, chance = Experience(Clock()), random.Random(2)
    records = [record(peer) for peer in DONORS]
    for _ in range(40):
        read(known, records, chance, slow=chance.choice([1.0, 20.0]))
    assert known.seen.believed(records) == tuple(records)


def test_what_was_seen_is_forgotten() -> None:
    """After half a day the record counts again."""
    clock = Clock()
    known, chance = Experience(clock), random.Random(1)
    records = [record(peer, TRUE / 100 if peer == "1 2" else TRUE) for peer in DONORS]
    for _ in range(24):
        read(known, records, chance)
    clock.now = 13 * 3600.0
    assert known.seen.believed(records) == tuple(records)


def test_a_short_answer_says_nothing_of_speed() -> None:
    """A few rounds are chance."""
    known, chance = Experience(Clock()), random.Random(1)
    records = [record(peer, TRUE / 100 if peer == "1 2" else TRUE) for peer in DONORS]
    for _ in range(24):
        read(known, records, chance, rounds=LEAST_ROUNDS - 1)
    assert known.seen.believed(records) == tuple(records)


def test_who_fails_loses_rank_and_wins_it_back() -> None:
    """One that only was not heard loses less; nobody wins more than a stranger has."""
    clock = Clock()
    known, one, other = Experience(clock), PeerId("one"), PeerId("other")
    assert known.trust(one) == 0.5 and known.rank(one) == 1.0
    known.failed(one, heals=False)
    known.failed(other)
    assert known.trust(one) < known.trust(other) < 0.5 and known.rank(one) > known.rank(other) > 1.0
    for _ in range(4):
        clock.now += 700.0
        known.failed(one, heals=False)
    assert known.trust(one) < 0.25
    known.seen.served([one] * 20)
    assert known.trust(one) == 0.5


def test_a_claim_of_no_time_at_all_is_bounded() -> None:
    """What no record may say by its shape, but says in numbers, breaks nothing."""
    records = [
        record(peer, claims) for peer, claims in zip(DONORS, (0.0, 5e-324, 1e-300, 1e14), strict=False)
    ]
    known = Experience(Clock())
    assert 0 < usual(records) < 1e15
    known.answered([Part(one.peer_id, 8, 1e-6) for one in records], 99, 1e9, 0.0, records)
    known.answered([Part(one.peer_id, 8, 1e14) for one in records], 99, 0.0, 1e9, records)
    assert all(one.step_seconds < 1e20 for one in known.seen.believed(records))


def test_a_pace_is_the_middle_round_of_the_last_route() -> None:
    """The prompt, and what came over another route, count no more."""
    clock = Clock()
    pace = Pace(clock)
    for clock.now in (0.0, 5.0, 9.0):
        pace.drawn()
    pace.begin()
    assert (pace.rounds, pace.seconds) == (0, 0.0)
    for clock.now in (20.0, 20.1, 20.2, 25.0):
        pace.drawn()
    assert pace.rounds == 3 and pace.seconds == pytest.approx(0.1)
