"""The domain's values in words, in one place for tray, page and command line.

The source language is English; translations lie in assets/locale in gettext's usual layout.
"""

from __future__ import annotations

import gettext
import time

from core.paths import code
from core.terms import Because, Reason, State

DOMAIN = "idlebloom"
LOCALE = code() / "assets" / "locale"


def translation(language: str = "auto") -> gettext.NullTranslations:
    """The words of a language, ``auto``: the desktop's. English where a language is not there."""
    chosen = None if language == "auto" else [language]
    return gettext.translation(DOMAIN, localedir=LOCALE, languages=chosen, fallback=True)


_spoken = [translation()]


def use(language: str | gettext.NullTranslations) -> None:
    """Say all that follows in this language: the setting ``language``, or words of one's own."""
    _spoken[0] = translation(language) if isinstance(language, str) else language


def _(message: str) -> str:
    return _spoken[0].gettext(message) if message else ""


def several(one: str, many: str, count: int) -> str:
    """The form that goes with a count; both have it as ``{count}``."""
    return _spoken[0].ngettext(one, many, count).format(count=count)


def N_(message: str) -> str:  # noqa: N802 – gettext's own name: mark for translation, translate later
    return message


STATES = {
    State.OFF: N_("off"),
    State.WAITING: N_("waiting"),
    State.FETCHING: N_("fetching the model"),
    State.LOADING: N_("loading the model"),
    State.GIVING: N_("giving"),
    State.LEAVING: N_("leaving"),
    State.PAUSED: N_("paused"),
    State.TROUBLE: N_("trouble"),
}

# Arguments in braces are keys of ``Because.args``; an argument that is missing shows as "…".
REASONS = {
    Reason.NO_CONSENT: N_("this PC gives nothing until you say so: idlebloom settings set donate always"),
    Reason.PAUSED: N_("paused until you resume"),
    Reason.NO_MODEL: N_("there is no model at {model}"),
    Reason.INPUT: N_("waiting: {minutes} more minutes without input"),
    Reason.INHIBITED: N_("waiting: {program} keeps the screen awake"),
    Reason.SWITCHED_OUT: N_("waiting: somebody else uses this PC"),
    Reason.OWN_CHAT: N_("kept for your own chats alone"),
    Reason.NO_IDLE_SOURCE: N_(
        "this PC does not tell when it is idle; to give all the same: idlebloom settings set donate always"
    ),
    Reason.GPU_BUSY: N_("yielded at {at} to {program}, which uses the GPU"),
    Reason.FULLSCREEN: N_("yielded at {at} to {program}, which fills the screen"),
    Reason.PROGRAM: N_("yielded to {program} at {at}"),
    Reason.ON_BATTERY: N_("waiting for mains power"),
    Reason.METERED: N_("waiting for a network that is not metered"),
    Reason.HOT: N_("GPU at {celsius} °C, resting"),
    Reason.HOURS: N_("outside the hours that you chose"),
    Reason.QUOTA: N_("the monthly quota of {gb} GB is used"),
    Reason.NO_DEVICE: N_("there is no device to serve with"),
    Reason.GPU_LOST: N_("the GPU cannot be used: {why}"),
    Reason.NO_SPACE: N_("there is too little space on the disk of {folder}"),
    Reason.NO_ROOM: N_("nothing fits: {why}"),
    Reason.NO_LAYERS: N_("the layers cannot be had: {why}"),
    Reason.NO_LICENCE: N_("{why}"),
    Reason.WORKER_FAILED: N_("the worker failed: {why}"),
    Reason.CHANGING: N_("beginning anew with the changed settings"),
    Reason.NO_NETWORK: N_("there is no network"),
    Reason.NO_MEETING_POINT: N_("none of the swarm's meeting points answers; it is tried again by itself"),
    Reason.NOT_ADMITTED: N_(
        "the swarm's meeting points do not let this PC in: it is private, or of another version; "
        "ask for an invite link, then: idlebloom join LINK"
    ),
    Reason.NETWORK_RESTARTS: N_("the network process is started again: {why}"),
    Reason.CLOCK_BEHIND: N_("this PC's clock is {seconds} s behind the swarm's: switch on network time"),
    Reason.CLOCK_AHEAD: N_("this PC's clock is {seconds} s ahead of the swarm's: switch on network time"),
}
LAST_MINUTE = N_("waiting: 1 more minute without input")
# Said instead where ``Because.until`` is known.
UNTIL = {
    Reason.PAUSED: N_("paused until {until}"),
    Reason.GPU_BUSY: N_("yielded to {program}, which used the GPU; back at {until} if it stays quiet"),
    Reason.FULLSCREEN: N_("yielded to {program}, which filled the screen; back at {until} if it stays quiet"),
    Reason.PROGRAM: N_("yielded to {program}, which has ended; back at {until} if it stays quiet"),
    Reason.HOURS: N_("outside the hours that you chose, until {until}"),
    Reason.QUOTA: N_("the monthly quota of {gb} GB is used until {until}"),
    Reason.NO_LAYERS: N_("the layers cannot be had: {why} Trying again at {until}"),
    Reason.WORKER_FAILED: N_("the worker failed: {why}; trying again at {until}"),
}


class _Arguments(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "…"


def text(because: Because, now: float | None = None) -> str:
    """A reason as one line for a person. ``now`` is Unix time."""
    arguments = _Arguments(because.args)
    now = time.time() if now is None else now
    template = REASONS[because.kind]
    if because.kind is Reason.INPUT and because.args.get("minutes") == 1:
        template = LAST_MINUTE
    if because.until is not None and because.kind in UNTIL:
        template = UNTIL[because.kind]
        arguments["until"] = moment(because.until, now)
    if isinstance(at := because.args.get("at"), int | float):
        arguments["at"] = moment(at, now)
    return _(template).format_map(arguments)


def state(of: State) -> str:
    return _(STATES[of])


def sentence(words: str) -> str:
    """``the prompt is empty`` → ``The prompt is empty.``: a reason stands in the middle of other words
    elsewhere; here it begins and ends a line. A name or an address in front stays as it is written."""
    first = words.partition(" ")[0]
    if "_" not in first and "/" not in first:
        words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."


def moment(then: float, now: float) -> str:
    """A time of day, with its day where that is not today: ``tomorrow 08:00``."""
    at, today = time.localtime(then), time.localtime(now)
    clock = time.strftime("%H:%M", at)
    if at[:3] == today[:3]:
        return clock
    if at[:3] == time.localtime(now + 86_400)[:3]:
        return _("tomorrow {time}").format(time=clock)
    return f"{time.strftime('%Y-%m-%d', at)} {clock}"


def size(count: float) -> str:
    """Bytes in decimal units, as disks and networks are sold: ``1.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("bytes", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
