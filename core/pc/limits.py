"""Whether this PC may give now, and if not why: settings, facts and orders into a budget. Pure.

What has to be remembered from one judgement to the next, so that it never flaps, is a ``Trail``, taken and
given back. All waits are counted on ``Facts.clock``, which does not jump; only hours, and orders until a time
of day, look at the wall's clock.

The rules, each a function below: the owner's word first (consent, pause), then what the owner does
(programs, fullscreen, the GPU, input), which ends giving at once; then what this PC needs (hours, mains
power, the network, quota, heat), which readers are given time for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from core.hours import allowed, minutes_until_change
from core.settings import Donate, Settings
from core.terms import Because, Budget, Facts, Leave, Orders, Reason

BUSY_SECONDS = 3.0
"""The GPU has to be busy, or calm, for so long before it counts as that."""
SETTLE_SECONDS = 30.0
"""What this PC lacked (mains power, network, a GPU) has to be back for so long, or for the setting
``return_minutes`` where that is less."""
OWN_CHAT_SECONDS = 600.0
COOLED = 10
"""Degrees below the limit at which a GPU that was too hot has cooled;"""
EASED = 3
"""and at which it needs less rest."""
TOO_HOT = 7
"""Degrees above the limit at which no rest will do;"""
HOT_SECONDS = 60.0
"""and for how long the longest rest is tried below that."""
REST_STEP = 0.1
REST_MOST = 0.8
REST_SECONDS = 5.0
"""Between two changes of the rest: a GPU warms and cools in seconds, not at once."""


@dataclass(frozen=True)
class Trail:
    """What the last judgements leave behind; times are ``Facts.clock``."""

    given: bool = False
    busy: bool = False
    turning_since: float | None = None
    """Since when the GPU has been other than ``busy`` says."""
    yielded: Because | None = None
    """To what the owner's programs did, until it has been quiet for long enough,"""
    quiet_since: float | None = None
    """since when it has."""
    awake_at: float | None = None
    """When something last kept the screen awake, or nobody could tell whether this PC is idle."""
    lacked: Because | None = None
    back_since: float | None = None
    hot: bool = False
    hot_since: float | None = None
    rest: float = 0.0
    rested_at: float = -math.inf


def judge(
    settings: Settings, facts: Facts, orders: Orders, trail: Trail, hindrance: Because | None = None
) -> tuple[Budget, Trail]:
    """``hindrance`` is what other parts of the node have against giving, such as a quota that is used."""
    trail = _lacked(settings, facts, hindrance, _heat(settings, facts, _programs(settings, facts, trail)))
    if facts.inhibitor or facts.switched_out or facts.idle_seconds is None:
        trail = replace(trail, awake_at=facts.clock)
    budget = _budget(settings, facts, orders, trail)
    return budget, replace(trail, given=budget.because is None)


def _budget(settings: Settings, facts: Facts, orders: Orders, trail: Trail) -> Budget:
    if settings.donate is Donate.OFF:
        return Budget(Because(Reason.NO_CONSENT))
    if (until := orders.paused_until) is not None:
        paused = Because(Reason.PAUSED, until=None if math.isinf(until) else until)
        return Budget(paused, Leave.FINISH if orders.finishing else Leave.AT_ONCE)
    at_once, planned = list(_owner(settings, facts, orders, trail)), list(_needs(settings, facts, trail))
    if at_once:
        # Who waits anyway is told what lasts longest.
        because = planned[0] if planned and not trail.given else at_once[0]
        own = all(reason.kind in _PRESENCE for reason in at_once) and not planned
        return Budget(because, own_only=own and _own_chat(settings, facts))
    if planned:
        return Budget(planned[0], Leave.PLANNED)
    return Budget(rest=trail.rest, celsius=_celsius(facts) or 0.0)


# What the owner does


def _owner(settings: Settings, facts: Facts, orders: Orders, trail: Trail) -> Iterator[Because]:
    if facts.gpu is not None and facts.gpu.trouble:
        yield Because(Reason.GPU_LOST, {"why": facts.gpu.trouble})
    if trail.yielded is not None:
        yield trail.yielded
    if settings.donate is Donate.WHEN_IDLE and orders.give_until is None:
        presence = _presence(settings, facts, trail)
        if presence is not None:
            yield presence


_PRESENCE = frozenset({Reason.SWITCHED_OUT, Reason.INHIBITED, Reason.NO_IDLE_SOURCE, Reason.INPUT})


def _presence(settings: Settings, facts: Facts, trail: Trail) -> Because | None:
    """Why this PC is not idle; unknown is not idle."""
    if facts.switched_out:
        return Because(Reason.SWITCHED_OUT)
    if facts.locked and settings.locked_is_idle:
        return None
    if facts.inhibitor:
        return Because(Reason.INHIBITED, {"program": facts.inhibitor})
    if facts.idle_seconds is None:
        return Because(Reason.NO_IDLE_SOURCE)
    idle = facts.idle_seconds
    if trail.awake_at is not None:
        idle = min(idle, facts.clock - trail.awake_at)
    lacking = settings.idle_minutes * 60 - idle
    return Because(Reason.INPUT, {"minutes": math.ceil(lacking / 60)}) if lacking > 0 else None


def _own_chat(settings: Settings, facts: Facts) -> bool:
    seconds = facts.own_chat_seconds
    return settings.own_chat_uses_gpu and seconds is not None and seconds < OWN_CHAT_SECONDS


def _programs(settings: Settings, facts: Facts, trail: Trail) -> Trail:
    """Yields to programs, and comes back when it has been quiet for long enough."""
    trail = _busy(settings, facts, trail)
    seen = _program(settings, facts, trail)
    if seen is not None:
        before = trail.yielded
        same = before is not None and trail.quiet_since is None and _who(before) == _who(seen)
        return replace(trail, yielded=before if same else seen, quiet_since=None)
    if trail.yielded is None:
        return trail
    since = facts.clock if trail.quiet_since is None else trail.quiet_since
    left = settings.return_minutes * 60 - (facts.clock - since)
    if left <= 0:
        return replace(trail, yielded=None, quiet_since=None)
    until = facts.now + left
    if trail.yielded.until is not None and abs(trail.yielded.until - until) < 5:
        until = trail.yielded.until  # the same moment: not a new reason at each look
    return replace(trail, yielded=replace(trail.yielded, until=until), quiet_since=since)


def _program(settings: Settings, facts: Facts, trail: Trail) -> Because | None:
    if facts.programs and settings.yield_programs:
        return Because(Reason.PROGRAM, {"program": facts.programs[0], "at": facts.now})
    if facts.fullscreen and settings.yield_fullscreen:
        return Because(Reason.FULLSCREEN, {"program": facts.fullscreen, "at": facts.now})
    if trail.busy:
        _percent, program = _others(facts)
        if not program and trail.yielded is not None and trail.yielded.kind is Reason.GPU_BUSY:
            program = str(trail.yielded.args["program"])
        return Because(Reason.GPU_BUSY, {"program": program or "…", "at": facts.now})
    return None


def _who(because: Because) -> tuple[Reason, object]:
    return because.kind, because.args.get("program")


def _others(facts: Facts) -> tuple[float | None, str]:
    """How busy others keep the GPU, and who: as its driver says, else as Windows does."""
    if facts.gpu is None:
        return None, ""
    if facts.gpu.percent is None:
        return facts.gpu_percent, facts.gpu_program or ""
    return facts.gpu.percent, facts.gpu.program


def _busy(settings: Settings, facts: Facts, trail: Trail) -> Trail:
    limit = settings.yield_gpu_percent
    percent, _program = _others(facts)
    busy = percent is not None and percent > limit and limit < 100
    if busy is trail.busy:
        return replace(trail, turning_since=None)
    since = facts.clock if trail.turning_since is None else trail.turning_since
    if facts.clock - since >= BUSY_SECONDS:
        return replace(trail, busy=busy, turning_since=None)
    return replace(trail, turning_since=since)


# What this PC needs


def _needs(settings: Settings, facts: Facts, trail: Trail) -> Iterator[Because]:
    if not allowed(settings.hours, facts.minute):
        wait = minutes_until_change(settings.hours, facts.minute)
        # The minute's beginning: the same moment, whenever in the minute it is asked.
        until = None if wait is None else (facts.now // 60 + wait) * 60
        yield Because(Reason.HOURS, until=until)
    if trail.lacked is not None:
        yield trail.lacked
    if trail.hot:
        yield Because(Reason.HOT, {"celsius": round(_celsius(facts) or settings.max_gpu_celsius)})


def _lacked(settings: Settings, facts: Facts, hindrance: Because | None, trail: Trail) -> Trail:
    lacks = _lacks(settings, facts, hindrance)
    if lacks is not None:
        return replace(trail, lacked=lacks, back_since=None)
    if trail.lacked is None:
        return trail
    since = facts.clock if trail.back_since is None else trail.back_since
    if facts.clock - since >= min(SETTLE_SECONDS, settings.return_minutes * 60):
        return replace(trail, lacked=None, back_since=None)
    return replace(trail, back_since=since)


def _lacks(settings: Settings, facts: Facts, hindrance: Because | None) -> Because | None:
    if facts.gpu is not None and facts.gpu.trouble:
        return Because(Reason.GPU_LOST, {"why": facts.gpu.trouble})
    if facts.on_battery and not settings.on_battery:
        return Because(Reason.ON_BATTERY)
    if facts.metered and not settings.on_metered:
        return Because(Reason.METERED)
    return hindrance


def _heat(settings: Settings, facts: Facts, trail: Trail) -> Trail:
    """Rest between steps first; leave where the longest rest does not cool it, or nothing will."""
    celsius, limit = _celsius(facts), settings.max_gpu_celsius
    if celsius is None:
        return replace(trail, hot=False, hot_since=None, rest=0.0)
    if trail.hot:
        return replace(trail, hot=False) if celsius <= limit - COOLED else trail
    if celsius > limit + TOO_HOT or (celsius > limit and not trail.given):
        return replace(trail, hot=True, hot_since=None, rest=0.0)
    if celsius > limit and trail.rest >= REST_MOST:
        since = facts.clock if trail.hot_since is None else trail.hot_since
        if facts.clock - since >= HOT_SECONDS:
            return replace(trail, hot=True, hot_since=None, rest=0.0)
        return replace(trail, hot_since=since)
    return _rest(facts, celsius - limit, replace(trail, hot_since=None))


def _rest(facts: Facts, above: float, trail: Trail) -> Trail:
    if facts.clock - trail.rested_at < REST_SECONDS:
        return trail
    step = REST_STEP if above > 0 else -REST_STEP if above < -EASED else 0.0
    rest = round(min(REST_MOST, max(0.0, trail.rest + step)), 2)
    return trail if rest == trail.rest else replace(trail, rest=rest, rested_at=facts.clock)


def _celsius(facts: Facts) -> float | None:
    return facts.gpu.celsius if facts.gpu is not None else None
