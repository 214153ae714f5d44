"""The judgement as tables, and as random days that must never make it flap."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from core.pc.limits import (
    BUSY_SECONDS,
    COOLED,
    HOT_SECONDS,
    OWN_CHAT_SECONDS,
    REST_MOST,
    SETTLE_SECONDS,
    Trail,
    judge,
)
from core.settings import Donate, Settings
from core.terms import Because, Budget, Facts, GpuUse, Leave, Orders, Reason

IDLE = Settings(donate=Donate.WHEN_IDLE)
ALWAYS = Settings(donate=Donate.ALWAYS)
NOBODY = Facts(now=1e9, clock=1e4, idle_seconds=9999.0)
NOW = Orders(give_until=math.inf)
NONE = Orders()


def settings(**values: Any) -> Settings:
    return replace(IDLE, **values)


def facts(**values: Any) -> Facts:
    return replace(NOBODY, **values)


def gpu(**values: Any) -> Facts:
    return facts(gpu=GpuUse(**{"percent": 0.0, "celsius": 50.0, **values}))


def kind(budget: Budget) -> Reason | None:
    return budget.because.kind if budget.because is not None else None


ROWS: list[tuple[str, Settings, Facts, Orders, Reason | None]] = [
    ("no consent", Settings(), NOBODY, NONE, Reason.NO_CONSENT),
    ("no consent beats give now", Settings(), NOBODY, NOW, Reason.NO_CONSENT),
    ("nobody there", IDLE, NOBODY, NONE, None),
    ("nothing known", IDLE, Facts(now=1e9), NONE, Reason.NO_IDLE_SOURCE),
    ("nothing known, always", ALWAYS, Facts(now=1e9), NONE, None),
    ("nothing known, give now", IDLE, Facts(now=1e9), NOW, None),
    ("somebody there", IDLE, facts(idle_seconds=0.0), NONE, Reason.INPUT),
    ("somebody there, always", ALWAYS, facts(idle_seconds=0.0), NONE, None),
    ("somebody there, give now", IDLE, facts(idle_seconds=0.0), NOW, None),
    ("almost idle", IDLE, facts(idle_seconds=299.9), NONE, Reason.INPUT),
    ("just idle", IDLE, facts(idle_seconds=300.0), NONE, None),
    ("patient owner", settings(idle_minutes=60.0), facts(idle_seconds=3599.0), NONE, Reason.INPUT),
    ("locked", IDLE, facts(idle_seconds=0.0, locked=True), NONE, None),
    ("locked, nothing else known", IDLE, Facts(now=1e9, locked=True), NONE, None),
    (
        "locked is not idle",
        settings(locked_is_idle=False),
        facts(idle_seconds=0.0, locked=True),
        NONE,
        Reason.INPUT,
    ),
    ("locked is not idle, long ago", settings(locked_is_idle=False), facts(locked=True), NONE, None),
    ("switched out", IDLE, facts(switched_out=True), NONE, Reason.SWITCHED_OUT),
    ("switched out and locked", IDLE, facts(switched_out=True, locked=True), NONE, Reason.SWITCHED_OUT),
    ("switched out, give now", IDLE, facts(switched_out=True), NOW, None),
    ("switched out, always", ALWAYS, facts(switched_out=True), NONE, None),
    ("a film", IDLE, facts(inhibitor="mpv"), NONE, Reason.INHIBITED),
    ("a film, locked", IDLE, facts(inhibitor="mpv", locked=True), NONE, None),
    ("a film, give now", IDLE, facts(inhibitor="mpv"), NOW, None),
    ("a film, always", ALWAYS, facts(inhibitor="mpv"), NONE, None),
    ("paused", IDLE, NOBODY, Orders(paused_until=math.inf), Reason.PAUSED),
    ("paused beats give now", IDLE, NOBODY, Orders(paused_until=2e9, give_until=2e9), Reason.PAUSED),
    ("fullscreen", IDLE, facts(fullscreen="game"), NONE, Reason.FULLSCREEN),
    ("fullscreen, give now", IDLE, facts(fullscreen="game"), NOW, Reason.FULLSCREEN),
    ("fullscreen, always", ALWAYS, facts(fullscreen="game"), NONE, Reason.FULLSCREEN),
    ("fullscreen is fine", settings(yield_fullscreen=False), facts(fullscreen="game"), NONE, None),
    ("no fullscreen", IDLE, facts(fullscreen=""), NONE, None),
    (
        "a named program",
        settings(yield_programs=("blender",)),
        facts(programs=("blender",)),
        NONE,
        Reason.PROGRAM,
    ),
    ("no named program", settings(yield_programs=("blender",)), facts(programs=()), NONE, None),
    ("a name taken back", IDLE, facts(programs=("blender",)), NONE, None),
    ("battery", IDLE, facts(on_battery=True), NONE, Reason.ON_BATTERY),
    ("battery, give now", IDLE, facts(on_battery=True), NOW, Reason.ON_BATTERY),
    ("battery, always", ALWAYS, facts(on_battery=True), NONE, Reason.ON_BATTERY),
    ("battery is fine", settings(on_battery=True), facts(on_battery=True), NONE, None),
    ("mains", IDLE, facts(on_battery=False), NONE, None),
    ("metered", IDLE, facts(metered=True), NONE, Reason.METERED),
    ("metered is fine", settings(on_metered=True), facts(metered=True), NONE, None),
    ("metered, give now", IDLE, facts(metered=True), NOW, Reason.METERED),
    ("within hours", settings(hours="00:00-01:00"), facts(minute=59), NONE, None),
    ("outside hours", settings(hours="00:00-01:00"), facts(minute=60), NONE, Reason.HOURS),
    ("outside hours, give now", settings(hours="00:00-01:00"), facts(minute=60), NOW, Reason.HOURS),
    ("a cool GPU", IDLE, gpu(), NONE, None),
    ("a GPU without a sensor", IDLE, gpu(celsius=None, percent=None), NONE, None),
    ("too warm to begin", IDLE, gpu(celsius=81.0), NONE, Reason.HOT),
    ("at the limit", IDLE, gpu(celsius=80.0), NONE, None),
    ("another limit", settings(max_gpu_celsius=60), gpu(celsius=61.0), NONE, Reason.HOT),
    ("busy only now", IDLE, gpu(percent=99.0, program="game"), NONE, None),
    ("lost", IDLE, gpu(trouble="gpu is lost"), NONE, Reason.GPU_LOST),
    ("lost, give now", IDLE, gpu(trouble="gpu is lost"), NOW, Reason.GPU_LOST),
]


@pytest.mark.parametrize(("what", "chosen", "seen", "orders", "reason"), ROWS, ids=[row[0] for row in ROWS])
def test_one_look(what: str, chosen: Settings, seen: Facts, orders: Orders, reason: Reason | None) -> None:
    """What is said at first sight."""
    assert kind(judge(chosen, seen, orders, Trail())[0]) is reason


CAUSES: dict[str, tuple[dict[str, Any], Reason, bool]] = {
    "input": ({"idle_seconds": 0.0}, Reason.INPUT, True),
    "film": ({"inhibitor": "mpv"}, Reason.INHIBITED, True),
    "user": ({"switched_out": True}, Reason.SWITCHED_OUT, True),
    "unknown": ({"idle_seconds": None}, Reason.NO_IDLE_SOURCE, True),
    "fullscreen": ({"fullscreen": "game"}, Reason.FULLSCREEN, True),
    "program": ({"programs": ("blender",)}, Reason.PROGRAM, True),
    "lost": ({"gpu": GpuUse(trouble="lost")}, Reason.GPU_LOST, True),
    "battery": ({"on_battery": True}, Reason.ON_BATTERY, False),
    "metered": ({"metered": True}, Reason.METERED, False),
    "hot": ({"gpu": GpuUse(celsius=95.0)}, Reason.HOT, False),
    "hours": ({"minute": 600}, Reason.HOURS, False),
}
PICKY = settings(yield_programs=("blender",), hours="00:00-08:00")
PRESENCE = {"input", "film", "user", "unknown"}


@pytest.mark.parametrize(
    "names", [c for n in (1, 2) for c in itertools.combinations(CAUSES, n)], ids="+".join
)
@pytest.mark.parametrize("given", [True, False], ids=["giving", "waiting"])
@pytest.mark.parametrize("orders", [NONE, NOW], ids=["", "give now"])
def test_causes_together(names: tuple[str, ...], given: bool, orders: Orders) -> None:
    """Whatever comes together: nothing is given, the reason is one of them, and where the owner is back the
    worker goes at once. *Give now* overrides presence alone."""
    seen = facts(**{key: value for name in names for key, value in CAUSES[name][0].items()})
    budget, trail = judge(PICKY, seen, orders, Trail(given=given))
    left = [name for name in names if not (orders is NOW and name in PRESENCE)]
    if "lost" in names and "hot" in names:
        left = [name for name in left if name != "lost"]  # one GPU cannot be both: the later fact holds
    if {"input", "unknown"} <= set(names):
        left = [name for name in left if name != "input"]
    assert trail.given is (not left)
    if not left:
        assert budget.because is None
        return
    assert kind(budget) in {CAUSES[name][1] for name in left}
    owner = any(CAUSES[name][2] for name in left)
    assert budget.leave is (Leave.AT_ONCE if owner else Leave.PLANNED)
    assert not budget.own_only


@pytest.mark.parametrize("name", CAUSES)
def test_own_chat_keeps_the_worker_from_presence_alone(name: str) -> None:
    """While the owner chats here, input does not end the worker: others leave, and nothing else is
    overridden."""
    seen = facts(**CAUSES[name][0], own_chat_seconds=10.0)
    budget, trail = judge(PICKY, seen, NONE, Trail(given=True))
    assert budget.own_only is (name in PRESENCE)
    assert kind(budget) is CAUSES[name][1] and not trail.given
    later = replace(seen, own_chat_seconds=OWN_CHAT_SECONDS)
    assert not judge(PICKY, later, NONE, Trail(given=True))[0].own_only
    unwanted = replace(PICKY, own_chat_uses_gpu=False)
    assert not judge(unwanted, seen, NONE, Trail(given=True))[0].own_only


def walk(
    chosen: Settings, seen: Facts, seconds: float, trail: Trail, step: float = 0.5
) -> Iterator[tuple[Facts, Budget, Trail]]:
    """The same facts for a while."""
    for number in range(1, int(seconds / step) + 1):
        later = replace(seen, now=seen.now + number * step, clock=seen.clock + number * step)
        budget, trail = judge(chosen, later, NONE, trail)
        yield later, budget, trail


def after(chosen: Settings, seen: Facts, seconds: float, trail: Trail) -> tuple[Budget, Trail, Facts]:
    *_, (later, budget, trail) = walk(chosen, seen, seconds, trail)
    return budget, trail, later


def test_windows_tells_who_else_uses_the_gpu() -> None:
    """Where the driver does not tell others from the worker, as in WSL2; where it does, it is believed."""
    told = replace(gpu(percent=None), gpu_percent=40.0, gpu_program="blender.exe")
    budget, _, _ = after(IDLE, told, 10, Trail(given=True))
    assert kind(budget) is Reason.GPU_BUSY and budget.because is not None
    assert budget.because.args["program"] == "blender.exe"
    for seen in (replace(told, gpu=GpuUse(percent=0.0, celsius=50.0)), replace(told, gpu=None)):
        assert kind(after(IDLE, seen, 10, Trail(given=True))[0]) is None


def test_a_busy_gpu_is_yielded_after_three_seconds() -> None:
    """A moment of use is nothing; three seconds of it are, and it is said who and when."""
    busy = gpu(percent=40.0, program="blender")
    budget, trail, _ = after(IDLE, busy, BUSY_SECONDS - 0.5, Trail(given=True))
    assert budget.because is None
    budget, trail, later = after(IDLE, busy, BUSY_SECONDS + 1, trail)
    assert budget.because is not None
    assert budget.because.kind is Reason.GPU_BUSY and budget.because.args["program"] == "blender"
    at = budget.because.args["at"]
    again, _, _ = after(IDLE, replace(later, gpu=busy.gpu), 60, trail)
    assert again.because is not None and again.because.args["at"] == at


@pytest.mark.parametrize(("limit", "yields"), [(10, True), (39, True), (40, False), (100, False)])
def test_the_limit_of_use_is_a_setting(limit: int, yields: bool) -> None:
    """Above it, this PC yields; 100 is never."""
    budget, _, _ = after(settings(yield_gpu_percent=limit), gpu(percent=40.0), 10, Trail(given=True))
    assert (kind(budget) is Reason.GPU_BUSY) is yields


@pytest.mark.parametrize(
    "seen", [facts(fullscreen="game"), facts(programs=("blender",)), gpu(percent=90.0, program="game")]
)
@pytest.mark.parametrize("minutes", [0.0, 1.0, 3.0])
def test_it_comes_back_when_it_has_been_quiet(seen: Facts, minutes: float) -> None:
    """Not before; and meanwhile it is said when."""
    chosen = settings(yield_programs=("blender",), return_minutes=minutes)
    budget, trail, later = after(chosen, seen, 30, Trail(given=True))
    assert budget.because is not None and budget.because.until is None
    quiet = replace(later, fullscreen="", programs=(), gpu=GpuUse(percent=0.0, celsius=50.0))
    extra = BUSY_SECONDS if seen.gpu is not None else 0.0
    back = [
        at.clock - later.clock for at, budget, _ in walk(chosen, quiet, 400, trail) if budget.because is None
    ]
    assert minutes * 60 + extra <= back[0] <= minutes * 60 + extra + 1
    if minutes:
        said = [budget.because.until for _, budget, _ in walk(chosen, quiet, 30, trail) if budget.because]
        assert len(set(said[10:])) == 1 and said[-1] is not None


@pytest.mark.parametrize("name", ["battery", "metered", "lost"])
def test_what_was_lacking_has_to_be_back_for_a_while(name: str) -> None:
    """A plug that is loose does not make it flap."""
    _, trail, later = after(PICKY, facts(**CAUSES[name][0]), 10, Trail(given=True))
    well = replace(NOBODY, now=later.now, clock=later.clock)
    back = [
        at.clock - later.clock for at, budget, _ in walk(PICKY, well, 60, trail) if budget.because is None
    ]
    assert SETTLE_SECONDS <= back[0] <= SETTLE_SECONDS + 1


def test_heat_is_answered_with_rest_first() -> None:
    """A little too warm: it rests more and more, and leaves only when that does not help."""
    warm = gpu(celsius=83.0)
    seen = list(walk(IDLE, warm, 200, Trail(given=True)))
    rests = [budget.rest for _, budget, _ in seen if budget.because is None]
    assert rests == sorted(rests) and rests[-1] == REST_MOST and rests[0] == 0.1
    gone = next(at for at, budget, _ in seen if kind(budget) is Reason.HOT)
    full = next(at for at, budget, _ in seen if budget.rest == REST_MOST)
    assert HOT_SECONDS <= gone.clock - full.clock <= HOT_SECONDS + 1
    assert seen[-1][1].leave is Leave.PLANNED
    budget, trail, _ = after(IDLE, gpu(celsius=80.0 - COOLED + 1), 60, seen[-1][2])
    assert kind(budget) is Reason.HOT
    assert after(IDLE, gpu(celsius=80.0 - COOLED), 60, trail)[0].because is None


def test_rest_that_helps_is_held_and_eased() -> None:
    """Between too warm and cool nothing changes; when it is cool it rests less."""
    *_, (_, budget, trail) = walk(IDLE, gpu(celsius=82.0), 12, Trail(given=True))
    rest = budget.rest
    assert 0 < rest < REST_MOST
    held, trail, later = after(IDLE, gpu(celsius=79.0), 100, trail)
    assert held.because is None and held.rest == rest
    eased, _, _ = after(IDLE, replace(later, gpu=GpuUse(celsius=70.0)), 100, trail)
    assert eased.rest == 0.0


def test_much_too_hot_is_left_at_once() -> None:
    """No rest will do then."""
    assert kind(judge(IDLE, gpu(celsius=88.0), NONE, Trail(given=True))[0]) is Reason.HOT


def test_a_film_that_ends_begins_the_wait() -> None:
    """Its end counts as input: the owner may still sit there."""
    _, trail, later = after(IDLE, facts(inhibitor="mpv"), 60, Trail(given=True))
    quiet = replace(NOBODY, now=later.now, clock=later.clock)
    back = [
        at.clock - later.clock for at, budget, _ in walk(IDLE, quiet, 400, trail) if budget.because is None
    ]
    assert 300 <= back[0] <= 301


def test_a_wall_clock_that_jumps_changes_no_wait() -> None:
    """Waits are counted on a clock that does not."""
    _, trail, later = after(IDLE, facts(fullscreen="game"), 10, Trail(given=True))
    for jump in (-1e6, 1e6):
        quiet = replace(NOBODY, now=later.now + jump, clock=later.clock)
        assert kind(after(IDLE, quiet, 170, trail)[0]) is Reason.FULLSCREEN
        assert after(IDLE, quiet, 190, trail)[0].because is None


def test_finishing_gives_readers_time() -> None:
    """*Finish, then pause* is a pause that waits for them."""
    for finishing, leave in ((True, Leave.FINISH), (False, Leave.AT_ONCE)):
        orders = Orders(paused_until=math.inf, finishing=finishing)
        assert judge(IDLE, NOBODY, orders, Trail(given=True))[0].leave is leave


def test_a_hindrance_from_elsewhere_counts() -> None:
    """A quota that is used is left as planned, in its own words."""
    quota = Because(Reason.QUOTA, {"gb": 50})
    budget, _ = judge(IDLE, NOBODY, NONE, Trail(given=True), quota)
    assert budget == Budget(quota, Leave.PLANNED)


def test_who_waits_hears_what_lasts_longest() -> None:
    """Outside the hours it is no use to say that there was input."""
    seen = facts(idle_seconds=0.0, minute=600)
    assert kind(judge(PICKY, seen, NONE, Trail())[0]) is Reason.HOURS
    assert kind(judge(PICKY, seen, NONE, Trail(given=True))[0]) is Reason.INPUT


def wild(chance: random.Random, seen: Facts, step: float) -> Facts:
    """The next moment of a PC on which anything may happen."""
    values: dict[str, Any] = {"now": seen.now + step, "clock": seen.clock + step}
    idle = 0.0 if chance.random() < 0.01 else (seen.idle_seconds or 0.0) + step
    values["idle_seconds"] = None if chance.random() < 0.001 else idle
    for name, likely, options in (
        ("locked", 0.003, (True, False, None)),
        ("switched_out", 0.001, (True, False, None)),
        ("inhibitor", 0.004, ("mpv", "", None)),
        ("fullscreen", 0.01, ("game", "film", "", None)),
        ("on_battery", 0.01, (True, False, None)),
        ("metered", 0.003, (True, False, None)),
        ("programs", 0.005, (("blender",), (), None)),
    ):
        if chance.random() < likely:
            values[name] = chance.choice(options)
    old = seen.gpu or GpuUse(percent=0.0, celsius=60.0)
    celsius = min(95.0, max(40.0, (old.celsius or 60.0) + chance.gauss(0, 1.5)))
    percent = chance.choice((0.0, 5.0, 14.0, 16.0, 60.0)) if chance.random() < 0.3 else old.percent
    trouble = ("lost" if chance.random() < 0.1 else "") if chance.random() < 0.01 else old.trouble
    values["gpu"] = GpuUse(percent=percent, celsius=celsius, program="game", trouble=trouble)
    return replace(seen, **values)


@pytest.mark.parametrize("seed", range(16))
def test_random_days_never_flap(seed: int) -> None:
    """Whatever happens: what speaks against giving ends it at that very look, and it is back only after the
    shortest of the waits. Heat has none, being measured in degrees, and nor has a screen that is locked."""
    chance = random.Random(seed)
    chosen = replace(
        PICKY,
        hours="",
        idle_minutes=1.0,
        return_minutes=1.0,
        donate=chance.choice((Donate.WHEN_IDLE, Donate.ALWAYS)),
    )
    seen, trail, left_at, gave = NOBODY, Trail(), -math.inf, 0
    left: Because | None = None
    shortest = SETTLE_SECONDS
    for _ in range(3000):
        seen = wild(chance, seen, 0.5)
        before = trail.given
        budget, trail = judge(chosen, seen, NONE, trail)
        if budget.because is None:
            gave += 1
            assert not (seen.fullscreen or seen.programs or seen.on_battery or seen.metered)
            assert seen.gpu is not None and not seen.gpu.trouble and (seen.gpu.celsius or 0) <= 87
            if chosen.donate is Donate.WHEN_IDLE:
                assert not seen.switched_out and (seen.locked or (seen.idle_seconds or 0) >= 60)
            if not before and left is not None and left.kind is not Reason.HOT and not seen.locked:
                assert seen.clock - left_at >= shortest
        elif before:
            left_at, left = seen.clock, budget.because
    assert gave
