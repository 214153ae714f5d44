"""What the node says of itself, as one frozen value that every part of the desktop is drawn from. Pure.

Read tolerantly: the node may be newer or older than this face. What is known is checked, the rest ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from core.terms import (
    Because,
    Memory,
    Progress,
    Rates,
    Reason,
    Span,
    State,
    Status,
    SwarmView,
    Today,
)

E = TypeVar("E", bound=StrEnum)


class Face(StrEnum):
    """The few shapes that the icon has, from far away."""

    GIVING = "giving"
    WAITING = "waiting"
    OWNER = "owner"
    PAUSED = "paused"
    WORKING = "working"
    TROUBLE = "trouble"
    OFF = "off"


OWNERS_TURN = frozenset({Reason.GPU_BUSY, Reason.FULLSCREEN, Reason.PROGRAM})
"""Reasons to wait that come from what the owner does, rather than from what they do not do yet."""
_FACES = {
    State.OFF: Face.OFF,
    State.FETCHING: Face.WORKING,
    State.LOADING: Face.WORKING,
    State.GIVING: Face.GIVING,
    State.LEAVING: Face.WAITING,
    State.PAUSED: Face.PAUSED,
    State.TROUBLE: Face.TROUBLE,
}


@dataclass(frozen=True)
class Given:
    """What was given in a time, ``hours`` being those online."""

    tokens: int = 0
    conversations: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    hours: float = 0.0


@dataclass(frozen=True)
class Day:
    """``date`` as in ISO 8601."""

    date: str
    given: Given


@dataclass(frozen=True)
class Ledger:
    """Days oldest first."""

    today: Given = Given()
    week: Given = Given()
    all: Given = Given()
    days: tuple[Day, ...] = ()


@dataclass(frozen=True)
class Happening:
    """One of the last events: at a time the node went over to a state, for a reason. ``text`` are the
    node's own words where it has any."""

    at: float
    state: State | None
    because: Because | None
    text: str = ""


@dataclass(frozen=True)
class Snapshot:
    """``status`` as the node has it, ``words`` its own text of the reason. ``giving_until``: of *give now*,
    0 until stopped, ``None`` while it is off."""

    status: Status
    words: str = ""
    giving_until: float | None = None
    finishing: bool = False

    @property
    def face(self) -> Face:
        because = self.status.reason
        if self.status.state is State.WAITING:
            return Face.OWNER if because is not None and because.kind in OWNERS_TURN else Face.WAITING
        return _FACES[self.status.state]

    @property
    def paused(self) -> bool:
        return self.status.state is State.PAUSED

    @property
    def paused_until(self) -> float | None:
        """When the pause ends by itself, Unix time."""
        because = self.status.reason
        return because.until if self.paused and because is not None else None


def read(said: object) -> Snapshot:
    """From the JSON of ``/api/status``. Raises ``ValueError`` where it is not one."""
    if not isinstance(said, Mapping) or "state" not in said:
        raise ValueError("this is no status")
    swarm = _mapping(said.get("swarm"))
    status = Status(
        version=str(said.get("version", "")),
        state=_member(State, said["state"], State.TROUBLE),
        reason=because(said.get("reason")),
        span=span(said.get("span")),
        progress=_progress(said.get("progress")),
        sessions=_whole(said.get("sessions")),
        today=Today(**_wholes(said.get("today"), ("tokens", "conversations", "up_bytes", "down_bytes"))),
        vram=Memory(**_wholes(said.get("vram"), ("used", "cap"))),
        rates=Rates(*(_number(_mapping(said.get("rates")).get(name)) for name in ("up", "down", "tokens"))),
        swarm=SwarmView(
            model=str(swarm.get("model", "")),
            whole=bool(swarm.get("whole")),
            missing=tuple(found for one in _list(swarm.get("missing")) if (found := span(one)) is not None),
            donors=_whole(swarm.get("donors")),
        ),
        blocks=_whole(said.get("blocks")),
    )
    until = said.get("giving_until")
    return Snapshot(
        status,
        str(_mapping(said.get("reason")).get("text", "")),
        _number(until) if isinstance(until, int | float) and not isinstance(until, bool) else None,
        said.get("finishing") is True,
    )


def because(said: object) -> Because | None:
    """``None`` for a reason that this face does not know: then the node's own text is shown."""
    found = _mapping(said)
    try:
        kind = Reason(str(found.get("kind")))
    except ValueError:
        return None
    args = {k: v for k, v in _mapping(found.get("args")).items() if isinstance(v, str | int | float)}
    until = found.get("until")
    return Because(kind, args, float(until) if isinstance(until, int | float) else None)


def span(said: object) -> Span | None:
    found = _mapping(said)
    try:
        return Span(int(found["start"]), int(found["end"]))
    except (KeyError, TypeError, ValueError):
        return None


def ledger(said: object) -> Ledger:
    """From the JSON of ``/api/given``."""
    found = _mapping(said)
    days = [(_mapping(day).get("day"), _given(day)) for day in _list(found.get("days"))]
    return Ledger(
        _given(found.get("today")),
        _given(found.get("week")),
        _given(found.get("all")),
        tuple(Day(date, given) for date, given in days if isinstance(date, str)),
    )


def happenings(said: object) -> tuple[Happening, ...]:
    """From the JSON of ``/api/events``, the newest first."""
    found = said.get("events") if isinstance(said, Mapping) else said
    events = []
    for one in _list(found):
        event = _mapping(one)
        reason = event.get("reason")
        text = str(_mapping(reason).get("text") or event.get("text") or "")
        state = event.get("state")
        known = State(state) if state in list(State) else None
        events.append(Happening(_number(event.get("at")), known, because(reason), text))
    return tuple(sorted(events, key=lambda event: -event.at))


def _given(said: object) -> Given:
    counts = _wholes(said, ("tokens", "conversations", "up_bytes", "down_bytes"))
    return Given(**counts, hours=_number(_mapping(said).get("hours")))


def _progress(said: object) -> Progress | None:
    found = _mapping(said)
    if not found:
        return None
    left = found.get("seconds_left")
    return Progress(
        str(found.get("phase", "")),
        _whole(found.get("done_bytes")),
        _whole(found.get("total_bytes")),
        _number(left) if isinstance(left, int | float) else None,
    )


def _member(kind: type[E], said: object, otherwise: E) -> E:
    try:
        return kind(str(said))
    except ValueError:
        return otherwise


def _mapping(said: object) -> Mapping[str, Any]:
    return said if isinstance(said, Mapping) else {}


def _list(said: object) -> list[object]:
    return said if isinstance(said, list) else []


def _number(said: object) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        return 0.0
    return float(said)


def _whole(said: object) -> int:
    return max(0, int(_number(said)))


def _wholes(said: object, names: tuple[str, ...]) -> dict[str, int]:
    found = _mapping(said)
    return {name: _whole(found.get(name)) for name in names}
