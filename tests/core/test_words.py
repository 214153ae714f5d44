from __future__ import annotations

import time

import pytest

from core import words
from core.terms import Because, Reason, State
from core.words import REASONS, STATES, UNTIL, moment, sentence, size, state, text

NOON = time.mktime((2026, 3, 10, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words(reason: Reason) -> None:
    """Each reason can be said, also with arguments or an end that are missing."""
    assert text(Because(reason))
    assert "{" not in text(Because(reason, until=NOON), now=NOON)


@pytest.mark.parametrize("of", State)
def test_every_state_has_words(of: State) -> None:
    """Each state can be said."""
    assert state(of)


def test_tables_are_whole() -> None:
    """No reason or state is forgotten, and what has an end can also be said without."""
    assert set(REASONS) == set(Reason)
    assert set(STATES) == set(State)
    assert set(UNTIL) <= set(REASONS)


def test_arguments_are_filled_in() -> None:
    """A reason's arguments stand in its text."""
    assert text(Because(Reason.HOT, {"celsius": 83})) == "GPU at 83 °C, resting"


@pytest.mark.parametrize(("hours", "words"), [(2, "14:00"), (20, "tomorrow 08:00"), (44, "2026-03-12 08:00")])
def test_moments(hours: int, words: str) -> None:
    """A time is said with its day where that is not today."""
    assert moment(NOON + hours * 3600, NOON) == words
    assert text(Because(Reason.PAUSED, until=NOON + hours * 3600), NOON) == f"paused until {words}"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (28_700, "29 kB"), (1.25e9, "1.2 GB"), (2e12, "2.0 TB")],
)
def test_sizes(count: float, words: str) -> None:
    """Sizes are said in decimal units."""
    assert size(count) == words


def test_a_language_is_chosen() -> None:
    """Words are said in the chosen language from then on, and in English where that is not there."""
    words.use("xx")
    assert words.state(State.PAUSED) == "paused"
    try:
        words.use("de")
        assert words.state(State.PAUSED) == "pausiert"
    finally:
        words.use("en")


def test_counts_choose_their_form() -> None:
    """One and several are said differently."""
    assert [words.several("{count} token", "{count} tokens", n) for n in (0, 1, 2)] == [
        "0 tokens",
        "1 token",
        "2 tokens",
    ]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("the prompt is empty", "The prompt is empty."),
        ("idle_minutes must be a number", "idle_minutes must be a number."),
        ("waiting: 1 more minute", "Waiting: 1 more minute."),
        ("https://huggingface.co cannot be reached", "https://huggingface.co cannot be reached."),
        ("asking for bloomz…", "Asking for bloomz…"),
    ],
)
def test_sentences_begin_with_a_capital_but_names_do_not(said: str, told: str) -> None:
    """A name that is changed is another one."""
    assert sentence(said) == told
