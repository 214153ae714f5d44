"""Donors that failed a moment ago are left out for a while."""

from __future__ import annotations

from core.routing.suspects import FIRST_SECONDS, FORGET_SECONDS, LONGEST_SECONDS, PAIR_SECONDS, Suspects
from core.terms import DonorState, ModelRef, PeerId, Record, Span

ONE, OTHER = PeerId("one"), PeerId("other")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(peer: PeerId, started_at: float = 0.0) -> Record:
    return Record(
        peer_id=peer,
        model=ModelRef("model", "revision", 10),
        span=Span(0, 10),
        state=DonorState.ONLINE,
        started_at=started_at,
        expires_at=2000.0,
    )


def test_who_failed_is_left_out_for_a_while_and_nobody_else_is() -> None:
    """A healthy donor is not punished for another's fault."""
    clock = Clock()
    suspects = Suspects(clock)
    suspects.failed(ONE)
    assert suspects.among([record(ONE), record(OTHER)]) == {ONE}
    clock.now += FIRST_SECONDS
    assert suspects.among([record(ONE), record(OTHER)]) == frozenset()


def test_who_fails_again_is_left_out_for_longer() -> None:
    """Twice as long each time, up to a limit, until it has not failed for long."""
    clock = Clock()
    suspects = Suspects(clock)
    seconds = FIRST_SECONDS
    for _ in range(10):
        suspects.failed(ONE)
        clock.now += seconds - 0.1
        assert suspects.among([record(ONE)]) == {ONE}
        clock.now += 0.2
        assert not suspects.among([record(ONE)])
        seconds = min(2 * seconds, LONGEST_SECONDS)
    clock.now += FORGET_SECONDS
    suspects.failed(ONE)
    clock.now += FIRST_SECONDS
    assert not suspects.among([record(ONE)])


def test_saying_twice_that_one_failed_counts_once() -> None:
    """While it is left out nobody asks it, so it cannot fail again."""
    clock = Clock()
    suspects = Suspects(clock)
    suspects.failed(ONE)
    clock.now += 1
    suspects.failed(ONE)
    clock.now += FIRST_SECONDS - 1
    assert not suspects.among([record(ONE)])


def test_a_donor_that_has_started_anew_is_believed() -> None:
    """What failed was its last life, even where word of the new one came only now."""
    suspects = Suspects(Clock())
    suspects.relied_on([record(ONE, started_at=10.0), record(OTHER, started_at=10.0)])
    suspects.failed(ONE)
    suspects.failed(OTHER)
    records = [record(ONE, started_at=11.0), record(OTHER, started_at=10.0)]
    assert suspects.among(records) == {OTHER}
    assert suspects.again(records) == {ONE}


def test_a_donor_that_was_only_silent_is_cleared_when_it_is_heard_again() -> None:
    """And is not remembered as one that failed; one that computed nonsense speaks all the while."""
    clock = Clock()
    suspects = Suspects(clock)
    for _ in range(3):
        suspects.failed(ONE)
        suspects.failed(OTHER, heals=False)
        assert suspects.among([record(ONE), record(OTHER)], lambda _peer: clock.now) == {ONE, OTHER}
        clock.now += 0.5
        assert suspects.among([record(ONE), record(OTHER)], lambda _peer: clock.now) == {OTHER}
    suspects.failed(ONE)
    clock.now += FIRST_SECONDS
    assert not suspects.among([record(ONE)])


def test_a_pair_that_cannot_dial_is_remembered_for_ten_minutes() -> None:
    """In that direction alone, and until one of the two starts anew."""
    clock = Clock()
    suspects = Suspects(clock)
    both = [record(ONE, started_at=10.0), record(OTHER, started_at=10.0)]
    suspects.relied_on(both)
    suspects.cannot_dial(ONE, OTHER)
    assert suspects.apart(both) == {(ONE, OTHER)}
    assert not suspects.apart([record(ONE, started_at=10.0), record(OTHER, started_at=11.0)])
    clock.now += PAIR_SECONDS
    assert not suspects.apart(both)


def test_who_fails_again_and_again_is_distrusted() -> None:
    """What it claims to serve keeps no donor away, until it has started anew or long been well."""
    clock = Clock()
    suspects = Suspects(clock)
    suspects.relied_on([record(ONE, 5.0)])
    suspects.failed(ONE)
    assert not suspects.distrusts(ONE)
    clock.now += FIRST_SECONDS
    suspects.failed(ONE)
    assert suspects.distrusts(ONE) and not suspects.distrusts(OTHER)
    suspects.relied_on([record(ONE, 900.0)])
    assert not suspects.distrusts(ONE)
    suspects.relied_on([record(ONE, 5.0)])
    clock.now += FORGET_SECONDS
    assert not suspects.distrusts(ONE)
