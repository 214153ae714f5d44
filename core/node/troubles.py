"""How trouble in the network shows in what the faces are told. Pure."""

from __future__ import annotations

from dataclasses import replace

from core.terms import Because, State, Status


def with_trouble(status: Status, trouble: Because | None) -> Status:
    """What serves is in trouble then; what is off says it too, for the owner may want to chat. A reason of
    the owner's own, such as a pause, comes first."""
    if trouble is None:
        return status
    if status.state is State.GIVING:
        return replace(status, state=State.TROUBLE, reason=trouble)
    return replace(status, reason=trouble) if status.state is State.OFF else status
