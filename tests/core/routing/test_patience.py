"""When the next try comes, and when there is none."""

from __future__ import annotations

from core.routing.patience import BROKEN_TIMES, FIRST_PAUSE, LEAST_TRIES, LONGEST_PAUSE, Patience


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def waited(patience: Patience, clock: Clock, *, nobody: bool, each: float = 0.0) -> list[float]:
    """All pauses until it is given up; every try takes ``each`` seconds."""
    pauses = []
    while (pause := patience.pause(nobody=nobody)) is not None:
        pauses.append(pause)
        clock.now += pause + each
    return pauses


def test_the_first_losses_are_recovered_from_at_once() -> None:
    """Then pauses grow, up to a limit; a reader goes on while routes do open."""
    clock = Clock()
    pauses = waited(Patience(clock, 30.0), clock, nobody=False)
    assert pauses[:5] == [0.0, 0.0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert max(pauses) == LONGEST_PAUSE
    assert sum(pauses) == BROKEN_TIMES * 30.0


def test_where_nobody_serves_the_layers_the_time_is_all_that_counts() -> None:
    """The last try comes when it is over."""
    clock = Clock()
    pauses = waited(Patience(clock, 3.0), clock, nobody=True)
    assert pauses[0] == FIRST_PAUSE
    assert sum(pauses) == 3.0


def test_time_with_a_route_is_no_time_without() -> None:
    """Losses, however many, do not use up the time for which a donor is waited for."""
    clock = Clock()
    patience = Patience(clock, 3.0)
    for _ in range(12):
        assert patience.pause() is not None
        clock.now += 1.0
    assert sum(waited(patience, clock, nobody=True)) == 3.0


def test_routes_that_open_and_compute_nonsense_are_tried_some_times_however_long_each_takes() -> None:
    """A long prompt may take longer to fill again than patience lasts; but what fails everywhere ends."""
    clock = Clock()
    patience, tries = Patience(clock, 3.0), 0
    while (pause := patience.pause(nonsense=True)) is not None:
        clock.now += pause + 10.0
        tries += 1
    assert tries == LEAST_TRIES


def test_progress_forgets_what_was_before() -> None:
    """Losses far apart are each the first."""
    clock = Clock()
    patience = Patience(clock, 3.0)
    for _ in range(20):
        assert patience.pause() == 0.0
        clock.now += 1.0
        patience.progress()
