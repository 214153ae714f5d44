from __future__ import annotations

import math

import pytest

from core.kinds import Decimal, Hours, Names, Switch

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


@pytest.mark.parametrize("value", [0.4, 100.1, math.nan, math.inf, 10**400, True, "1"])
def test_a_decimal_keeps_to_its_limits(value: object) -> None:
    """Numbers out of the limits, and what is no number, are refused with what it must be."""
    with pytest.raises(ValueError, match=r"^a number from 0.5 to 100, or “unlimited”$"):
        LIMIT.check(value)


def test_a_decimal_without_a_word_must_be_chosen() -> None:
    """Where there is no word for none, none is refused."""
    with pytest.raises(ValueError, match=r"^a number from 0 to 1$"):
        Decimal(0, 1).check(None)


@pytest.mark.parametrize(("text", "value"), [("always", ""), ("22:00-8:00", "22:00-08:00")])
def test_hours_are_typed(text: str, value: str) -> None:
    """They survive being written."""
    assert Hours().parse(text) == value
    assert Hours().parse(Hours().text(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("", ()), (" blender , Game.exe,blender", ("blender", "Game.exe")), ("my game", ("my game",))],
)
def test_names_are_typed(text: str, value: tuple[str, ...]) -> None:
    """With commas between them, each once; they survive being written."""
    assert Names().parse(text) == value
    assert Names().parse(Names().text(value)) == value


@pytest.mark.parametrize("value", ["blender", ["a/b"], ["a,b"], [""], [1], ["a\nb"], ["x"] * 101])
def test_other_names_are_refused(value: object) -> None:
    """Paths, lists in a text and endless lists are no names of programs."""
    with pytest.raises(ValueError, match="names of programs"):
        Names().check(value)
