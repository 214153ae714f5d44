from __future__ import annotations

import math

import pytest

from core.kinds import Decimal, Switch

LIMIT = Decimal(0.5, 100, unset="unlimited")


@pytest.mark.parametrize(
    ("text", "value"), [("on", True), (" Yes ", True), ("off", False), ("NO", False), ("0", False)]
)
def test_a_switch_is_typed_in_plain_words(text: str, value: bool) -> None:
    """Yes and no can be typed in the ways that people do."""
    assert Switch().parse(text) is value


@pytest.mark.parametrize("value", ["on", 1, None])
def test_a_switch_takes_only_true_or_false_from_json(value: object) -> None:
    """What JSON gives must be a truth value."""
    with pytest.raises(ValueError, match=r"^on or off$"):
        Switch().check(value)


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), (" 1,5 ", 1.5), ("100", 100.0), ("Unlimited", None)]
)
def test_a_decimal_may_be_left_unset(text: str, value: float | None) -> None:
    """A number within the limits, or the word that stands for none; it survives being written."""
    assert LIMIT.parse(text) == value
    assert LIMIT.parse(LIMIT.text(LIMIT.check(value))) == value


@pytest.mark.parametrize("value", [0.4, 100.1, math.nan, math.inf, True, "1"])
def test_a_decimal_keeps_to_its_limits(value: object) -> None:
    """Numbers out of the limits, and what is no number, are refused with what it must be."""
    with pytest.raises(ValueError, match=r"^a number from 0.5 to 100, or “unlimited”$"):
        LIMIT.check(value)


def test_a_decimal_without_a_word_must_be_chosen() -> None:
    """Where there is no word for none, none is refused."""
    with pytest.raises(ValueError, match=r"^a number from 0 to 1$"):
        Decimal(0, 1).check(None)
