"""What the tray and its window say, made from a snapshot. Pure: words alone, no widgets."""

from __future__ import annotations

import time
from dataclasses import replace

from core import words
from core.terms import Because, Progress, Reason, Span, State, Status
from core.words import N_, _, sentence, several, size
from desktop.snapshot import Face, Given, Happening, Snapshot

NAME = "Idlebloom"
FACES = {
    Face.GIVING: N_("Giving"),
    Face.WAITING: N_("Waiting"),
    Face.OWNER: N_("Your turn"),
    Face.PAUSED: N_("Paused"),
    Face.WORKING: N_("Getting ready"),
    Face.TROUBLE: N_("Trouble"),
    Face.OFF: N_("Not giving"),
}
PHASES = {
    "fetch": N_("Fetching"),
    "fetching": N_("Fetching"),
    "preparing": N_("Preparing"),
    "quantize": N_("Quantizing"),
    "quantizing": N_("Quantizing"),
    "load": N_("Loading"),
    "loading": N_("Loading"),
    "moving": N_("Moving"),
    "verify": N_("Checking"),
}


def title(snapshot: Snapshot) -> str:
    """The state in two words."""
    if snapshot.status.state is State.LEAVING:
        return _("Finishing") if snapshot.finishing else _("Leaving")
    return _(FACES[snapshot.face])


def why(snapshot: Snapshot, now: float | None = None) -> str:
    """One sentence below the title: what is going on, or why it is not."""
    status = snapshot.status
    if status.state is State.GIVING:
        return readers(status.sessions)
    if snapshot.paused:
        return pause_left(snapshot.paused_until, now)
    if status.state is State.OFF and (status.reason is None or status.reason.kind is Reason.NO_CONSENT):
        return _("This PC gives nothing until you say so.")
    if status.reason is not None:
        return sentence(words.text(status.reason, now))
    if snapshot.words:
        return sentence(snapshot.words)
    if status.progress is not None:
        return progress(status.progress)
    return ""


def tooltip(snapshot: Snapshot | None, trouble: str = "", now: float | None = None) -> str:
    """One line of what and why."""
    if snapshot is None:
        return f"{NAME}: {trouble or _('starting')}"
    reason = why(snapshot, now)
    if snapshot.status.state in (State.FETCHING, State.LOADING) and snapshot.status.progress is not None:
        reason = progress(snapshot.status.progress)
    said = title(snapshot)
    return f"{NAME}: {said} – {reason}" if reason else f"{NAME}: {said}"


def readers(count: int) -> str:
    if count == 0:
        return _("Ready. Nobody is asking anything now.")
    return several("To {count} reader now.", "To {count} readers now.", count)


def pause_left(until: float | None, now: float | None = None) -> str:
    """How long a pause still lasts."""
    if until is None:
        return _("Until you resume.")
    now = time.time() if now is None else now
    return _("Until {until}, {left} left.").format(until=words.moment(until, now), left=lasting(until - now))


def lasting(seconds: float) -> str:
    """A length of time as one rounded figure or two: ``1 h 20 min``."""
    minutes = max(0, round(seconds / 60))
    if seconds < 60:
        return _("{count} s").format(count=max(0, round(seconds)))
    if minutes < 60:
        return _("{count} min").format(count=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return _("{count} days").format(count=round(hours / 24))
    return (
        _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)
        if minutes
        else _("{count} h").format(count=hours)
    )


def progress(of: Progress) -> str:
    """``Fetching: 1.2 GB of 25 GB, 35 min left``."""
    phase = _(PHASES[of.phase]) if of.phase in PHASES else sentence(of.phase).rstrip(".") or _("Working")
    if of.total_bytes <= 0:
        return f"{phase}…"
    done = _("{phase}: {done} of {total}").format(
        phase=phase, done=size(of.done_bytes), total=size(of.total_bytes)
    )
    if of.seconds_left is None:
        return done
    return _("{progress}, {left} left").format(progress=done, left=lasting(of.seconds_left))


def given(what: Given) -> str:
    """``412 tokens of 9 conversations, 1.2 GB up``."""
    if replace(what, hours=0.0) == Given():
        return _("nothing yet")
    return _("{tokens} of {conversations}, {up} up").format(
        tokens=several("{count} token", "{count} tokens", what.tokens),
        conversations=several("{count} conversation", "{count} conversations", what.conversations),
        up=size(what.up_bytes),
    )


def blocks(span: Span, layers: int | None = None) -> str:
    """A span as people count: blocks by their number, the ends by what they do. ``layers`` of the whole
    model tells the head from a block; without it the last is taken for a block."""
    if layers is not None and span.start == 0 and span.end >= layers:
        return _("the whole model")
    parts = []
    first, last = max(1, span.start), span.end - 1
    has_head = layers is not None and span.end == layers
    if has_head:
        last -= 1
    if span.start == 0:
        parts.append(_("words in"))
    if first == last:
        parts.append(_("block {first}").format(first=first))
    elif first < last:
        parts.append(_("blocks {first} to {last}").format(first=first, last=last))
    if has_head:
        parts.append(_("words out"))
    return ", ".join(parts)


def held(status: Status) -> str:
    """What this PC holds; empty where it holds nothing."""
    if status.span is None:
        return ""
    return blocks(status.span, status.blocks + 2 if status.blocks else None)


def swarm(snapshot: Snapshot) -> str:
    """The swarm in one line."""
    seen = snapshot.status.swarm
    if not seen.model:
        return _("no swarm yet")
    donors = several("{count} donor", "{count} donors", seen.donors)
    if seen.whole:
        return _("whole, {donors}").format(donors=donors)
    missing = sum(len(span) for span in seen.missing)
    holes = several("{count} layer is missing", "{count} layers are missing", missing)
    return _("{holes}, {donors}").format(holes=holes, donors=donors) if missing else donors


def rate(of: float) -> str:
    """Bytes a second."""
    return _("{size}/s").format(size=size(of))


def happening(event: Happening, now: float | None = None) -> str:
    """An event of the list in words."""
    said = words.text(event.because, now) if event.because is not None else event.text
    if event.state is None:
        return sentence(said) if said else ""
    state = words.state(event.state)
    if not said:
        return sentence(state)
    return sentence(said if said.startswith(state) else f"{state}: {said}")


def moment(at: float, now: float | None = None) -> str:
    return words.moment(at, time.time() if now is None else now)


def because(kind: Reason) -> str:
    return words.text(Because(kind))
