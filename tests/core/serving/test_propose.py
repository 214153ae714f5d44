"""Guesses from the text's own past, and a window that follows what they bring."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from core.serving.propose import WINDOWS, NgramIndex, NgramProposer


def test_what_followed_the_same_ending_is_proposed() -> None:
    """The longest ending that was seen before counts."""
    index = NgramIndex([1, 2, 3, 4, 9, 5, 3, 4, 7, 1, 2, 3, 4])
    assert list(index.continuation(3)) == [9, 5, 3]


def test_a_text_that_repeats_itself_goes_on_repeating() -> None:
    """Beyond the end of what was said."""
    assert list(NgramIndex([5, 6, 7] * 3).continuation(8)) == [5, 6, 7, 5, 6, 7, 5, 6]


def test_a_new_ending_has_no_continuation() -> None:
    """Nothing is made up."""
    assert list(NgramIndex([1, 2, 3, 4, 5, 6]).continuation(4)) == []
    assert list(NgramIndex([]).continuation(4)) == []


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 20))
def test_continuations_come_from_the_text(ids: list[int], count: int) -> None:
    """However it grows, an index that learned on the way says the same as a new one."""
    growing: list[int] = []
    index = NgramIndex(growing)
    for token in ids:
        growing.append(token)
        index.continuation(1)
    assert list(index.continuation(count)) == list(NgramIndex(ids).continuation(count))


class Ring:
    """A ring whose rounds take ``base`` seconds and ``extra`` for each proposal; each proposal is right
    with probability ``sure`` as long as those before it were."""

    def __init__(self, base: float, extra: float, sure: float) -> None:
        self.base, self.extra, self.sure = base, extra, sure
        self.now = 0.0
        self.random = random.Random(2)
        self.ids = [1, 2, 3, 4, 5, 6, 7, 8] * 3
        self.proposer = NgramProposer(self.ids, lambda: self.now)

    def run(self, rounds: int) -> tuple[int, float]:
        """Tokens drawn and seconds taken."""
        drawn, begun = 0, self.now
        for _ in range(rounds):
            proposed = len(self.proposer.propose(100))
            self.now += self.base + self.extra * proposed
            accepted = 0
            while accepted < proposed and self.random.random() < self.sure:
                accepted += 1
            if proposed:
                self.proposer.judge(proposed, accepted)
            drawn += 1 + accepted
            for _ in range(1 + accepted):
                self.ids.append(self.ids[-8])
        return drawn, self.now - begun


def test_the_window_grows_where_guesses_are_right() -> None:
    """Over a slow network nearly every round brings many tokens."""
    ring = Ring(base=0.3, extra=0.002, sure=0.97)
    ring.run(100)
    drawn, seconds = ring.run(200)
    assert drawn / seconds > 5 / 0.3


def test_the_window_closes_where_guesses_are_wrong() -> None:
    """What is left of trying costs less than 3 %."""
    ring = Ring(base=0.1, extra=0.02, sure=0.0)
    ring.run(100)
    drawn, seconds = ring.run(500)
    assert drawn / seconds > 0.97 / 0.1


def test_no_more_is_proposed_than_there_is_room_for() -> None:
    """Credit is a hard limit."""
    ring = Ring(base=0.3, extra=0.0, sure=1.0)
    ring.run(50)
    assert len(ring.proposer.propose(1)) <= 1
    assert list(ring.proposer.propose(0)) == []
    assert max(WINDOWS) == 16
