"""The tray's menu as values, made anew from each snapshot. Pure: ``desktop.tray`` shows it.

A click carries an ``Order``, which ``desktop.app`` carries out; orders to the node are what
``POST /api/donate`` takes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from core.terms import State
from core.words import N_, _
from desktop import phrases
from desktop.snapshot import Snapshot


class Do(StrEnum):
    """What a menu entry or a button asks for."""

    CHAT = "chat"
    GIVE = "give"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    SETTINGS = "settings"
    STATUS = "status"
    SWARM = "swarm"
    WELCOME = "welcome"
    QUIT = "quit"


TO_NODE = (Do.GIVE, Do.PAUSE, Do.RESUME, Do.FINISH)
"""These go to the node."""


@dataclass(frozen=True)
class Order:
    """``length`` as the node reads it: ``15m``, ``1h``, ``tomorrow``; empty: until said otherwise."""

    do: Do
    length: str = ""

    def body(self) -> dict[str, str | None]:
        """What ``POST /api/donate`` takes."""
        return {"action": self.do.value, "for": self.length or None}


@dataclass(frozen=True)
class Entry:
    """A line of a menu: an order, a submenu, or (with neither) words alone. An empty text is a separator."""

    text: str
    order: Order | None = None
    under: tuple[Entry, ...] = ()


SEPARATOR = Entry("")
GIVE = (("15m", N_("For 15 minutes")), ("1h", N_("For 1 hour")), ("", N_("Until I stop")))
PAUSE = (
    ("15m", N_("For 15 minutes")),
    ("1h", N_("For 1 hour")),
    ("3h", N_("For 3 hours")),
    ("tomorrow", N_("Until tomorrow")),
    ("", N_("Until I resume")),
)


def build(
    snapshot: Snapshot | None, *, consented: bool, trouble: str = "", now: float | None = None
) -> tuple[Entry, ...]:
    """The whole menu. ``consented``: the owner has been through the first run, so there is a node."""
    now = time.time() if now is None else now
    if not consented:
        return (
            Entry(_("Not set up yet")),
            SEPARATOR,
            Entry(_("Set up Idlebloom…"), Order(Do.WELCOME)),
            SEPARATOR,
            Entry(_("Quit"), Order(Do.QUIT)),
        )
    if snapshot is None:
        head: tuple[Entry, ...] = (Entry(trouble or _("Starting…")),)
        middle: tuple[Entry, ...] = ()
    else:
        head = (Entry(_headline(snapshot, now)), SEPARATOR, Entry(_("Open chat"), Order(Do.CHAT)))
        middle = (SEPARATOR, *donating(snapshot, now))
    return (
        *head,
        *middle,
        SEPARATOR,
        Entry(_("Settings…"), Order(Do.SETTINGS)),
        Entry(_("Status…"), Order(Do.STATUS)),
        SEPARATOR,
        Entry(_("Quit"), Order(Do.QUIT)),
    )


def donating(snapshot: Snapshot, now: float) -> tuple[Entry, ...]:
    """The entries about giving, which depend on what is going on."""
    give = Entry(_("Give now"), under=lengths(Do.GIVE))
    pause = Entry(_("Pause"), under=lengths(Do.PAUSE))
    if snapshot.paused:
        until = snapshot.paused_until
        left = "" if until is None else f" ({phrases.lasting(until - now)})"
        return (
            Entry(_("Resume") + left, Order(Do.RESUME)),
            give,
            Entry(_("Pause for longer"), under=pause.under),
        )
    entries = []
    if snapshot.giving_until is not None:
        left = "" if snapshot.giving_until == 0 else f" ({phrases.lasting(snapshot.giving_until - now)})"
        entries.append(Entry(_("Stop giving now") + left, Order(Do.RESUME)))
    else:
        entries.append(give)
    entries.append(pause)
    if snapshot.status.state is State.GIVING:
        entries.append(Entry(_("Finish, then pause"), Order(Do.FINISH)))
    return tuple(entries)


def lengths(do: Do) -> tuple[Entry, ...]:
    """The submenu of *give now* or of *pause*."""
    return tuple(Entry(_(text), Order(do, length)) for length, text in (GIVE if do is Do.GIVE else PAUSE))


def _headline(snapshot: Snapshot, now: float) -> str:
    reason = phrases.why(snapshot, now).rstrip(".")
    return f"{phrases.title(snapshot)}: {reason}" if reason else phrases.title(snapshot)
