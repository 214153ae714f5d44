"""What a demo's donors do together, as one donor would say it."""

from __future__ import annotations

import pytest

from core.serving.counts import Counts
from core.terms import Span
from idlebloom.demo_status import joined, summed

FIRST, LAST, ALL = Span(0, 4), Span(4, 10), Span(0, 10)


@pytest.mark.parametrize(
    ("served", "tokens", "conversations"),
    [
        pytest.param([(FIRST, 9, 1), (LAST, 9, 1)], 9, 1, id="one answer over two donors"),
        pytest.param([(FIRST, 9, 1), (LAST, 5, 1), (LAST, 4, 0)], 9, 1, id="one took another's place"),
        pytest.param([(ALL, 9, 1), (ALL, 7, 1)], 16, 2, id="two answers, each at one that holds all"),
        pytest.param([(FIRST, 9, 1), (Span(5, 10), 9, 1)], 0, 0, id="a layer that nobody holds"),
    ],
)
def test_an_answer_counts_once(served: list[tuple[Span, int, int]], tokens: int, conversations: int) -> None:
    """However many donors it passed; what they carried, all of them carried."""
    each = [(span, Counts(1, count, talks, talks, 100, 10)) for span, count, talks in served]
    counts = summed(each, 10)
    assert (counts.tokens, counts.conversations, counts.sessions) == (tokens, conversations, conversations)
    assert (counts.up_bytes, counts.down_bytes) == (100 * len(served), 10 * len(served))


@pytest.mark.parametrize(
    ("spans", "whole"),
    [
        ([FIRST, LAST], ALL),
        ([Span(2, 5), Span(4, 6)], Span(2, 6)),
        ([FIRST, Span(5, 10)], None),
        ([], None),
    ],
)
def test_what_they_hold_is_one_span_where_nothing_is_missing(spans: list[Span], whole: Span | None) -> None:
    """A hole has no place in a span."""
    assert joined(spans) == whole
