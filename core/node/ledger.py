"""What this PC has given, day by day, and what happened last. No text, no address, no peer is in it.

One small file, replaced in one step whenever the worker tells of more, so that a crash loses a second at
most.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from core import json_file
from core.errors import DiskError
from core.meter import Traffic
from core.terms import Because, Happened, Span, State, Status

log = logging.getLogger(__name__)

DAYS = 90
"""Days kept apart; what is older is kept as one sum."""
EVENTS = 100
RETRY_SECONDS = 30.0
"""Between attempts to write where the disk takes nothing;"""
HOURS_SECONDS = 60.0
"""and between two where only time has passed: a crash may lose so much of it."""


@dataclass(frozen=True)
class Given:
    tokens: int = 0
    conversations: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    hours: float = 0.0

    def __add__(self, other: Given) -> Given:
        return Given(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Given)))

    @classmethod
    def read(cls, found: object) -> Given:
        """What was written; anything else counts as nothing."""
        values = found if isinstance(found, Mapping) else {}
        return cls(**{f.name: _number(values.get(f.name), f.type == "float") for f in fields(cls)})


def _event_to_json(event: Happened) -> dict[str, Any]:
    return {
        "at": event.at,
        "state": event.state.value,
        "reason": None if event.because is None else event.because.to_json(),
        "span": None if event.span is None else [event.span.start, event.span.end],
    }


def _read_event(found: Mapping[str, Any]) -> Happened:
    """Raises as ``Because.read`` for what is none."""
    said, span = found["reason"], found["span"]
    because = None if said is None else Because.read(said)
    return Happened(float(found["at"]), State(found["state"]), because, None if span is None else Span(*span))


class Ledger:
    """``notice`` says what was wrong with the file, if anything was. Belongs to one loop."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.notice = ""
        self._days: dict[str, Given] = {}
        self._before = Given()
        self._not_before = self._saved_at = float("-inf")
        self.events: deque[Happened] = deque(maxlen=EVENTS)
        self._dirty = self._urgent = False
        self._load()

    def add(self, given: Given, now: float | None = None) -> None:
        """Count it for the day of ``now`` in local time. ``save`` writes it."""
        day = _day(time.time() if now is None else now)
        self._days[day] = self._days.get(day, Given()) + given
        while len(self._days) > DAYS:
            self._before += self._days.pop(min(self._days))
        self._dirty = True
        self._urgent = self._urgent or given != Given(hours=given.hours)

    def note(self, status: Status, now: float) -> None:
        """Remember what the node does now, where that is news."""
        if status.state in (State.LOADING, State.FETCHING) and self.events:
            last = self.events[-1]
            if last.state in (State.LOADING, State.FETCHING):
                return
        event = Happened(now, status.state, status.reason, status.span)
        if self.events and _gist(self.events[-1]) == _gist(event):
            return
        self.events.append(event)
        self._dirty = self._urgent = True

    @property
    def today(self) -> Given:
        return self._days.get(_day(time.time()), Given())

    def month(self, now: float) -> Traffic:
        """What was carried in the month of ``now``, in local time; it survives a restart."""
        month = _day(now)[:7]
        days = [given for day, given in self._days.items() if day.startswith(month)]
        return Traffic(sum(given.up_bytes for given in days), sum(given.down_bytes for given in days))

    def summary(self) -> dict[str, Any]:
        """Today, the last 7 days and all time, and a list of days, the oldest first."""
        now = time.time()
        week = {_day(now - 86_400 * ago) for ago in range(7)}
        return {
            "today": asdict(self.today),
            "week": asdict(_sum(given for day, given in self._days.items() if day in week)),
            "all": asdict(_sum(self._days.values()) + self._before),
            "days": [{"day": day, **asdict(given)} for day, given in sorted(self._days.items())],
        }

    def save(self, *, at_end: bool = False) -> None:
        """Write what is new; a disk that takes nothing is tried again later, and nothing is lost
        meanwhile."""
        if not self._dirty or time.monotonic() < self._not_before:
            return
        if not self._urgent and not at_end and time.monotonic() - self._saved_at < HOURS_SECONDS:
            return
        try:
            json_file.write(self._file, self._content())
        except DiskError as error:
            self._not_before = time.monotonic() + RETRY_SECONDS
            log.warning("the ledger cannot be written: %s", error)
        else:
            self._dirty = self._urgent = False
            self._saved_at = time.monotonic()

    def _content(self) -> dict[str, Any]:
        return {
            "days": {day: asdict(given) for day, given in sorted(self._days.items())},
            "before": asdict(self._before),
            "events": [_event_to_json(event) for event in self.events],
        }

    def _load(self) -> None:
        try:
            found = json_file.read(self._file)
        except DiskError as error:
            self.notice = f"{error}. What was given before is not counted any more."
            return
        days = found.get("days")
        if isinstance(days, Mapping):
            self._days = {str(day): Given.read(given) for day, given in days.items()}
        self._before = Given.read(found.get("before"))
        events = found.get("events")
        for one in events if isinstance(events, list) else ():
            try:
                self.events.append(_read_event(one))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # of another version


def _gist(event: Happened) -> tuple[object, ...]:
    """What makes it another event: not how many minutes are left."""
    because = event.because
    kind = because.kind if because is not None else None
    program = because.args.get("program", "") if because is not None else ""
    return event.state, kind, program


def _sum(many: Any) -> Given:
    return sum(many, Given())


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))


def _number(value: object, fraction: bool) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        return 0.0 if fraction else 0
    return float(value) if fraction else int(value)
