"""The numbers that benchmarks are judged by."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from math import comb
from pathlib import Path

import pytest

from benchmarks.measure import Bar, Interval, Results, Row, Run, Timing, common_rate, rounds, whole_rate

RUN = Run("a processor", 2, 24.0, "Linux", {"python": "3.11"}, "2026-01-01 00:00 UTC", 0.1, quick=False)


def answer(*times: float, asked: float = 0.0) -> Timing:
    return Timing(asked, times, tuple(range(len(times))))


def test_a_rate_leaves_the_prompt_out() -> None:
    """Tokens a second count from the first token on."""
    timing = answer(10.0, 10.5, 11.0)
    assert (timing.first, timing.rate, timing.step) == (10.0, 2.0, 0.5)


def test_readers_are_counted_while_all_decode() -> None:
    """What the first reader gets while the others' prompts are read does not count."""
    timings = [answer(1, 2, 3, 4, 5, 6), answer(3, 5, 7)]
    assert common_rate(timings) == (3 + 1) / 3
    assert whole_rate(timings) == 9 / 7
    assert common_rate(timings[:1]) == timings[0].rate


def test_readers_who_never_decode_together_have_no_rate() -> None:
    """Too few tokens are an error, not a number."""
    with pytest.raises(ValueError, match="more tokens"):
        common_rate([answer(1, 2), answer(3, 4)])


@pytest.mark.parametrize("count", [6, 7, 15, 30, 101])
def test_an_interval_holds_the_median_in_95_of_100(count: int) -> None:
    """The order statistics are the narrowest that do."""
    interval = Interval.of(range(1, count + 1))
    rank = int(interval.low)
    assert interval.high == count + 1 - rank
    below = [sum(comb(count, i) for i in range(k)) / 2**count for k in (rank, rank + 1)]
    assert below[0] <= 0.025 < below[1]


def test_a_few_samples_have_their_extremes() -> None:
    """Nothing narrower can be said of them."""
    assert Interval.of([3.0, 1.0, 2.0]) == Interval(1.0, 2.0, 3.0, 3)


def test_a_bar_is_judged_by_the_whole_interval() -> None:
    """An interval that holds the bar has not reached it."""
    row = Row("name", "what", "×", Interval(0.9, 1.1, 1.2, 30), 1, "float32", Bar(1.0))
    assert row.verdict == "not met (the interval holds the bar)"
    assert replace(row, value=Interval(1.0, 1.1, 1.2, 30)).verdict == "met"
    assert replace(row, value=Interval(0.7, 0.8, 0.9, 30)).verdict == "not met"
    assert replace(row, bar=Bar(1.5, at_least=False)).verdict == "met"
    assert replace(row, bar=None).verdict == ""


async def test_contenders_take_turns() -> None:
    """A B A B …, and the first round does not count."""
    asked: list[tuple[str, int]] = []

    class Contender:
        def __init__(self, name: str) -> None:
            self.name = name

        async def answer(self, ids: object, count: int) -> Timing:
            asked.append((self.name, ids[0]))  # type: ignore[index]
            return answer(1.0, 2.0)

    timings = await rounds({"a": Contender("a"), "b": Contender("b")}, [[1], [2]], 2)
    assert asked == [("a", 1), ("b", 1), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert {name: len(found) for name, found in timings.items()} == {"a": 2, "b": 2}


async def test_a_round_that_does_not_end_in_time_is_left_out() -> None:
    """Whole rounds alone count, and who is slow is waited for no longer."""

    class Contender:
        asked = 0

        async def answer(self, _ids: object, _count: int) -> Timing:
            self.asked += 1
            if self.asked > 2:
                await asyncio.Event().wait()
            return answer(1.0, 2.0)

    quick, slow = Contender(), Contender()
    until = time.monotonic() + 0.1
    timings = await rounds({"a": quick, "b": slow}, [[1], [2], [3]], 2, until=until)
    assert {name: len(found) for name, found in timings.items()} == {"a": 1, "b": 1}
    assert (quick.asked, slow.asked) == (3, 2)


def test_rows_keep_the_run_they_come_from(tmp_path: Path) -> None:
    """Measuring one row anew leaves the others, each with its own run."""
    row = Row("one", "first", "ms", Interval(1, 2, 3, 30), 1, "float32", bound="the clock")
    Results("Title", "Notes.", tmp_path, "file").put([row, replace(row, name="two", what="second")], RUN)
    later = replace(RUN, at="2026-02-02 00:00 UTC")
    Results("Title", "Notes.", tmp_path, "file").put([replace(row, what="first again")], later)
    rows = json.loads((tmp_path / "file.json").read_text())["rows"]
    assert [(found["what"], found["run"]["at"]) for found in rows] == [
        ("first again", later.at),
        ("second", RUN.at),
    ]
    text = (tmp_path / "file.md").read_text()
    assert "| first again | 2.00 ms | 1.00 to 3.00 | 30 |" in text
    assert "- a: 2026-02-02" in text and "- b: 2026-01-01" in text
