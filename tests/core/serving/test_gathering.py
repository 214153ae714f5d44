"""When decode steps wait for others, as a table of moments."""

from __future__ import annotations

import pytest

from core.serving.gathering import EARLY, GAP, LATE, PATIENCE, Gathering

STEP, ROUND = 0.1, 0.3


def gathering(keys: str = "abcd") -> Gathering:
    """Those sessions have begun twice, the last time at 0.0, a round apart."""
    made = Gathering()
    made.begin(keys, -ROUND)
    made.begin(keys, 0.0)
    assert made.round == pytest.approx(ROUND)
    return made


def test_whoever_is_alone_never_waits() -> None:
    """One session, known or new, begins at once."""
    assert gathering("a").wait("a", ROUND, STEP) == 0
    assert Gathering().wait("a", 0.0, STEP, parts=1) == 0


def test_a_batch_waits_while_frames_keep_coming() -> None:
    """From each frame a small part of a step, and not for those that are elsewhere in the ring."""
    made = gathering()
    assert made.wait("a", ROUND, STEP) == pytest.approx(GAP * STEP)
    assert made.wait("ab", ROUND + 0.005, STEP) == pytest.approx(GAP * STEP)
    assert made.wait("ab", ROUND + 0.012, STEP) == 0, "nothing came for long enough"
    assert made.wait("abcd", ROUND + 0.012, STEP) == 0, "all are there"
    assert gathering().wait("a", EARLY * ROUND - 0.01, STEP) == 0, "the others have only just left"
    assert gathering().wait("a", LATE * ROUND + 0.001, STEP) == 0, "the others do not come back"


def test_patience_ends() -> None:
    """However the frames dribble in, a batch begins after a part of a step."""
    made = gathering("abcdefgh")
    made.wait("a", ROUND, STEP)
    late = ROUND + PATIENCE * STEP
    assert made.wait("abcde", late - 0.001, STEP) == pytest.approx(0.001)
    assert made.wait("abcdef", late, STEP) == 0


@pytest.mark.parametrize(("parts", "enough"), [(1, "abcd"), (2, "ab"), (4, "a")])
def test_an_entry_waits_for_its_share(parts: int, enough: str) -> None:
    """Of four sessions all, two or one, for a round at most."""
    made = gathering()
    now = EARLY * ROUND - 0.01
    assert made.wait(enough, now, STEP, parts) == 0
    if parts < 4:
        assert made.wait(enough[1:], now, STEP, parts) == pytest.approx(ROUND)
        assert made.wait(enough[1:], now + ROUND + 0.001, STEP, parts) == 0


def test_who_ended_is_not_waited_for() -> None:
    """A session that has not come for one and a half rounds is out of the count."""
    made = gathering("ab")
    made.begin("a", ROUND)
    assert made.wait("a", 2 * ROUND, STEP, parts=1) == 0
