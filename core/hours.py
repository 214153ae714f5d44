"""Hours of the week in which something may be done, as a person writes them. Pure.

``22:00-08:00`` is every night, ``mon-fri 18:00-23:00, sat-sun 00:00-24:00`` differs by day, ``always`` is no
limit. A time that ends before it begins goes on into the next day.
"""

from __future__ import annotations

import re

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
WEEK = 7 * DAY
ALWAYS = "always"
WORDS = f"hours like 22:00-08:00 or mon-fri 18:00-23:00, sat-sun 00:00-24:00, or “{ALWAYS}”"
_PART = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:\s*-\s*(?P<last>[a-z]{3}))?\s+)?"
    r"(?P<from>\d{1,2}:\d{2})\s*[-–]\s*(?P<to>\d{1,2}:\d{2})"
)


def normal(text: str) -> str:
    """The same hours, written as this program does. Raises ``ValueError``."""
    said = text.strip().lower()
    if said in ("", ALWAYS):
        return ""
    return ", ".join(_written(part) for part in said.split(","))


def allowed(hours: str, minute: int) -> bool:
    """Whether the minute of the week, 0 being Monday 00:00, lies within ``hours``."""
    return not hours or any(
        start <= minute < end or start <= minute + WEEK < end for start, end in _parts(hours)
    )


def minutes_until_change(hours: str, minute: int) -> int | None:
    """Minutes until it goes from allowed to not, or back; ``None`` where it never does."""
    now = allowed(hours, minute)
    edges = sorted({(edge - minute) % WEEK or WEEK for part in _parts(hours) for edge in part})
    return next((wait for wait in edges if allowed(hours, (minute + wait) % WEEK) is not now), None)


def _parts(hours: str) -> list[tuple[int, int]]:
    """As minutes of the week; an end may lie in the week after."""
    found: list[tuple[int, int]] = []
    for part in hours.split(",") if hours else ():
        days, start, end = _read(part)
        length = end - start if end > start else end + DAY - start
        found += [(day * DAY + start, day * DAY + start + length) for day in days]
    return found


def _written(part: str) -> str:
    found = _match(part)
    _read(part)
    days = "-".join(day for day in (found["first"], found["last"]) if day)
    times = "-".join(found[name].zfill(5) for name in ("from", "to"))
    return f"{days} {times}".strip()


def _read(part: str) -> tuple[list[int], int, int]:
    found = _match(part)
    start, end = _minutes(found["from"]), _minutes(found["to"])
    if start in (end, DAY):
        raise ValueError(WORDS)
    return _days(found["first"], found["last"]), start, end


def _match(part: str) -> re.Match[str]:
    found = _PART.fullmatch(part.strip())
    if found is None:
        raise ValueError(WORDS)
    return found


def _days(first: str | None, last: str | None) -> list[int]:
    if first is None:
        return list(range(7))
    if first not in DAYS or (last or first) not in DAYS:
        raise ValueError(WORDS)
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return [(begin + step) % 7 for step in range((end - begin) % 7 + 1)]


def _minutes(clock: str) -> int:
    hour, minute = (int(part) for part in clock.split(":"))
    if minute > 59 or hour * 60 + minute > DAY:
        raise ValueError(WORDS)
    return hour * 60 + minute
