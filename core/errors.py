"""Everything that can go wrong, as one tree. Each error carries a sentence for a person and, in
``advice``, what to do about it.

IdlebloomError
├── UserError            what the user asked for cannot be done as asked
│   ├── SettingError     a setting that does not exist or a value out of its limits
│   ├── PromptError      a prompt that is empty or not text
│   │   └── TooLong      a prompt beyond the model's length
│   ├── TooLittle        what may be used of this PC is too little for what should be served
│   └── NotAccepted      a model whose licence restricts its use, and was not accepted
├── DiskError            a folder or file of this PC that cannot be read or written, or a full disk
├── ModelError           a model folder, file or tensor that is missing, damaged or not BLOOM
├── SwarmError           the network side
│   ├── NoDonor          layers without a donor
│   ├── StageLost        a donor on the route ended, hung or misbehaved
│   ├── Refused          a donor (or this PC) said no, with a reason
│   └── FrameError       bytes from a peer that do not fit the session
├── NodeError            the background node: not running, port in use, already running
└── Stopped              the reader or the owner stopped it; not a fault
"""

from __future__ import annotations

from collections.abc import Iterable

from core.terms import PeerId, Span


class IdlebloomError(Exception):
    """Base of all. ``str(error)`` is one line: what is wrong, then what to do."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        if not self.advice:
            return self.message
        stem = self.message if self.message.endswith((".", "!", "?")) else f"{self.message}."
        return f"{stem} {self.advice}"


class UserError(IdlebloomError):
    pass


class SettingError(UserError):
    pass


class PromptError(UserError):
    pass


class TooLong(PromptError):
    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"the prompt has {tokens} tokens and this model holds {limit} in all",
            "Shorten the prompt, or ask for fewer new tokens.",
        )
        self.tokens, self.limit = tokens, limit


class TooLittle(UserError):
    pass


class NotAccepted(UserError):
    def __init__(self, model_id: str, licence: str) -> None:
        super().__init__(
            f"the licence of {model_id}, {licence}, restricts what it may be used for",
            "Read and accept it first: idlebloom model accept",
        )
        self.model_id, self.licence = model_id, licence


class DiskError(IdlebloomError):
    pass


class ModelError(IdlebloomError):
    pass


class SwarmError(IdlebloomError):
    pass


class NoDonor(SwarmError):
    """Layers that nobody serves, as spans of layers; ``why`` the last donor that did is out."""

    def __init__(self, missing: Iterable[Span], why: str = "") -> None:
        self.missing, self.why = tuple(missing), why
        words = " and ".join(_layers(span) for span in self.missing) or "some layers"
        verb = "has" if len(self.missing) == 1 and len(self.missing[0]) == 1 else "have"
        super().__init__(
            f"{words} {verb} no donor{f' left: {why}' if why else ''}",
            "Wait for a donor to join, or serve them from this PC.",
        )


def _layers(span: Span) -> str:
    return f"layer {span.start}" if len(span) == 1 else f"layers {span.start} to {span.end - 1}"


class StageLost(SwarmError):
    """A donor on the route ended, hung or misbehaved; another route may work."""

    def __init__(self, peer_id: PeerId, why: str) -> None:
        super().__init__(f"the donor {peer_id[-8:]} was lost: {why}")
        self.peer_id, self.why = peer_id, why


class Refused(SwarmError):
    """A peer said no. ``kind`` is one of the refusal words of ``core.swarm.messages``."""

    def __init__(self, peer_id: PeerId, kind: str, why: str) -> None:
        super().__init__(f"the donor {peer_id[-8:]} refused: {why}")
        self.peer_id, self.kind, self.why = peer_id, kind, why


class FrameError(SwarmError):
    pass


class NodeError(IdlebloomError):
    pass


class Stopped(IdlebloomError):
    pass
