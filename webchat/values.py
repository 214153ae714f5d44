"""Reading what a client sent: each value checked, each complaint naming its field."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import cast

Body = Mapping[str, object]


class BadValue(ValueError):
    """A field that is missing, of the wrong type or out of its limits; or one that is not supported."""

    def __init__(self, field: str, message: str, code: str | None = None) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.code = field, code


def mapping(value: object, field: str) -> Body:
    if not isinstance(value, dict):
        raise BadValue(field, "must be an object")
    return cast("Body", value)


def number(body: Body, field: str, low: float, high: float, default: float) -> float:
    value = body.get(field)
    if value is None:
        return default
    # bool is an int in Python, and json.loads reads NaN, Infinity and whole numbers beyond any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise BadValue(field, f"must be a number from {low:g} to {high:g}")
    if not low <= value <= high:
        raise BadValue(field, f"must be from {low:g} to {high:g}, not {value:g}")
    return float(value)


def whole(body: Body, field: str, low: int, high: int) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValue(field, "must be a whole number")
    if not low <= value <= high:
        raise BadValue(field, f"must be from {low} to {high}, not {value}")
    return value


def flag(body: Body, field: str) -> bool:
    value = body.get(field)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadValue(field, "must be true or false")
    return value


def text(body: Body, field: str) -> str:
    if field not in body:
        raise BadValue(field, "is missing")
    value = body[field]
    if not isinstance(value, str):
        raise BadValue(field, "must be text")
    return checked_text(value, field)


def checked_text(value: str, field: str) -> str:
    """JSON may carry half a surrogate pair, which no tokenizer can encode."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadValue(field, "is not valid Unicode text") from None
    return value
