"""All facts of this PC, read in the background: a thread a source, so that one that hangs makes its own
fields unknown and nothing else."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from core.pc import macos, windows
from core.pc.gpu import GpuWatch
from core.pc.source import Reading, Source, Unreadable
from core.pc.system import Battery, Programs
from core.terms import Facts

log = logging.getLogger(__name__)

FIELDS = frozenset(field.name for field in fields(Facts)) - {"now", "clock", "minute", "own_chat_seconds"}
"""What sources may tell."""
TOLD = frozenset(
    {
        *("idle_seconds", "locked", "switched_out", "inhibitor", "fullscreen", "on_battery", "metered"),
        *("programs", "gpu_percent", "gpu_program"),
    }
)
"""What another process may tell through the local door."""
TOLD_SECONDS = 5.0
"""How long that holds."""
LATE_SECONDS = 3.0
"""A reading is no longer believed when the next is overdue by this and two more turns."""
CALM_SECONDS = 2.0
"""The least between two readings while nothing is given: nobody waits for what they say."""
FIRST_SECONDS = 3.0
"""How long the first readings are waited for."""


class GpuSource:
    """The GPU of that number as others use it. A driver that never was there says nothing."""

    every: ClassVar[float] = 0.5
    away_seconds: ClassVar[float] = 30.0

    def __init__(self, index: int, ours: Callable[[], Collection[int]]) -> None:
        self._watch, self._ours = GpuWatch(index), ours
        self._seen, self._asked = False, float("-inf")

    def read(self) -> Reading:
        if not self._seen and time.monotonic() - self._asked < self.away_seconds:
            return {"gpu": None}
        self._asked = time.monotonic()
        found = self._watch.read(self._ours())
        self._seen = self._seen or not found.trouble
        return {"gpu": found if self._seen else None}

    def close(self) -> None:
        self._watch.close()


def sources(programs: Callable[[], Collection[str]], ours: Callable[[], Collection[int]]) -> list[Source]:
    """What can be read on this PC. ``programs`` are the names to look for, ``ours`` our worker's
    processes."""
    found: list[Source | None] = [Programs(programs), GpuSource(0, ours)]
    if sys.platform == "linux":
        from core.pc import linux, wayland, x11  # over packages that only Linux has

        found += [
            linux.first(
                x11.X11Input.open,
                wayland.WaylandIdle.open,
                linux.MutterIdle.open,
                linux.LogindIdle.open,
            ),
            linux.SessionState.open(),
            linux.LogindInhibitors.open(),
            linux.DesktopInhibitors.open(),
            x11.X11Screen.open(),
            linux.first(linux.Mains.open, Battery.open),
            linux.Metered.open(),
        ]
    elif sys.platform == "win32":
        found += windows.sources()
    else:
        found += [macos.Input.open(), Battery.open()]
    return [source for source in found if source is not None]


@dataclass
class _Kept:
    at: float
    reading: Reading


class Observer:
    """``changed`` is called, from any thread, when something is other than it was: input came, a program
    began. ``find`` gives the sources, in a thread, since asking for them takes time too."""

    def __init__(
        self,
        find: Callable[[], Iterable[Source]],
        changed: Callable[[], None],
        pause: float = CALM_SECONDS,
    ) -> None:
        self._find, self._changed = find, changed
        self._kept: dict[object, _Kept] = {}
        self._told: _Kept | None = None
        self._every: dict[object, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.pause = pause
        """The least between two readings. None while something is given: an owner who comes back must be seen
        at once."""
        self._first = threading.Event()
        threading.Thread(target=self._begin, name="facts", daemon=True).start()

    def wait(self) -> None:
        """Returns when every source has been read once, or soon after: who hangs is not waited for."""
        self._first.wait(FIRST_SECONDS)

    def close(self) -> None:
        """Threads end by themselves; one that hangs does not hold the process, being a daemon."""
        self._stop.set()

    def tell(self, told: Mapping[str, Any]) -> None:
        """Facts from another process, checked by ``check_told``; they hold for a few seconds."""
        with self._lock:
            before = self._told
            self._told = _Kept(_clock(), dict(told))
        if before is None or _differs(before.reading, told):
            self._changed()

    def facts(self, own_chat_seconds: float | None = None) -> Facts:
        clock, values = _clock(), dict[str, Any]()
        with self._lock:
            kept = [
                one
                for source, one in self._kept.items()
                if clock - one.at < 3 * self._every[source] + LATE_SECONDS + self.pause
            ]
            if self._told is not None and clock - self._told.at < TOLD_SECONDS:
                kept.append(self._told)
        for one in kept:
            for name, value in one.reading.items():
                values[name] = _both(name, values.get(name), value)
        now = time.time()
        local = time.localtime(now)
        minute = (local.tm_wday * 24 + local.tm_hour) * 60 + local.tm_min
        return Facts(now=now, clock=clock, minute=minute, own_chat_seconds=own_chat_seconds, **values)

    def _begin(self) -> None:
        found = list(self._find())
        once = [threading.Event() for _ in found]
        for source, read in zip(found, once, strict=True):
            self._every[source] = source.every
            name = f"facts {type(source).__name__}"
            threading.Thread(target=self._read, args=(source, read), name=name, daemon=True).start()
        for read in once:
            read.wait(FIRST_SECONDS)
        self._first.set()

    def _read(self, source: Source, read: threading.Event) -> None:
        failing = False
        while not self._stop.is_set():
            try:
                reading = source.read()
                failing = False
            except Unreadable as error:
                reading = {}
                if not failing:
                    log.warning("%s cannot be read: %s", type(source).__name__, error)
                failing = True
            with self._lock:
                before = self._kept.get(source)
                self._kept[source] = _Kept(_clock(), reading)
            read.set()
            if before is None or _differs(before.reading, reading):
                self._changed()
            self._stop.wait(max(source.every, self.pause, 1.0 if failing else 0.0))
        source.close()


def check_told(said: object) -> dict[str, Any]:
    """Facts from another process. Raises ``ValueError`` in words."""
    if not isinstance(said, Mapping):
        raise ValueError("facts must be an object")
    kinds: dict[str, type | tuple[type, ...]] = {
        "idle_seconds": (int, float),
        "inhibitor": str,
        "fullscreen": str,
        "gpu_percent": (int, float),
        "gpu_program": str,
    }
    found = dict(said)
    for name, value in said.items():
        kind = kinds.get(name, bool)
        if name not in TOLD:
            raise ValueError(f"there is no fact “{name}”: there are {', '.join(sorted(TOLD))}")
        if value is None:
            continue
        if name == "programs":
            found[name] = _names(value)
            continue
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise ValueError(f"the fact {name} cannot be {value!r}")
        if isinstance(value, str) and (len(value) > 200 or not (value.isprintable() or not value)):
            raise ValueError(f"the fact {name} must be one short line")
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < 1e9:
            raise ValueError(f"the fact {name} must be 0 or more")
    return found


def _names(value: object) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [None]
    found = tuple(name for name in names if isinstance(name, str) and 0 < len(name) <= 200)
    if len(found) != len(names) or len(found) > 64 or not all(name.isprintable() for name in found):
        raise ValueError("the fact programs must be a list of at most 64 short names")
    return found


def _both(name: str, one: Any, other: Any) -> Any:
    """Of two sources the one that knows; where both do, what speaks against giving."""
    if one is None or other is None:
        return other if one is None else one
    if name == "idle_seconds":
        return min(one, other)
    if name == "locked":
        return one and other
    return one or other


def _differs(before: Reading, now: Reading) -> bool:
    """Whether it is news: time without input only where it has begun anew."""
    for name in before.keys() | now.keys():
        old, new = before.get(name), now.get(name)
        if name == "idle_seconds" and old is not None and new is not None:
            if new < old:
                return True
        elif old != new:
            return True
    return False


def _clock() -> float:
    """Seconds that do not jump; on Linux they go on while the PC sleeps."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
