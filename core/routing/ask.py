"""What a face asks of the routing client, and what comes back, as frozen values.

An answer is a stream of events: one ``Started``, any number of ``Piece`` and ``Moved``, one ``Ended``; or an
exception of ``core.errors`` in place of the rest. ``Waiting`` may come anywhere before the end, before
``Started`` too: a face says so until the next event of another kind. Closing the stream cancels the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from core.errors import UserError
from core.terms import Finish, Route, Sampling, Span, Token


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Ids:
    """A prompt that is tokens already."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Ask:
    """One request for text."""

    prompt: str | Ids | tuple[Message, ...]
    """Raw text or tokens to continue, or chat messages that the model's own format turns into text."""
    max_tokens: int | None = None
    """At most this many new tokens; ``None``: as many as the model's length leaves."""
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """The answer ends before any of these."""
    conversation: str | None = None
    """Key under which the session is kept for the next turn, which then sends only what is new.
    ``None``: the session is freed when the answer ends."""
    forgets: bool = False
    """Of a conversation beyond the model's length, leave out whole oldest turns, where ``TooLong`` would
    be raised otherwise."""
    patience: float = 30.0
    """For how many seconds a donor is waited for where layers have none, counted from the last token on."""


_LIMITS: dict[str, tuple[float, float, str]] = {
    "temperature": (0.0, 100.0, "from 0 (always the likeliest word) to 100"),
    "top_k": (0, 1 << 31, "0 (off) or a number of candidates"),
    "top_p": (1e-6, 1.0, "above 0 and at most 1"),
    "repetition_penalty": (0.01, 100.0, "from 0.01 to 100"),
    "presence_penalty": (-2.0, 2.0, "from -2 to 2"),
    "frequency_penalty": (-2.0, 2.0, "from -2 to 2"),
    "seed": (-(2**63), 2**63 - 1, "a whole number of at most 64 bits"),
    "logprobs": (0, 20, "from 0 to 20"),
}


def check(sampling: Sampling) -> None:
    """Raises ``UserError`` that names the first value out of its limits."""
    for name, (least, most, words) in _LIMITS.items():
        value = getattr(sampling, name)
        if not math.isfinite(value) or not least <= value <= most:
            raise UserError(f"{name} cannot be {value}", f"It must be {words}.")


@dataclass(frozen=True)
class Started:
    """The route is open."""

    model_id: str
    route: Route
    prompt_tokens: int
    reused_tokens: int
    """How many of the prompt's tokens the session's caches already held."""
    forgotten: int = 0
    """How many of the conversation's oldest messages, after a system message, the model was not told."""


@dataclass(frozen=True)
class Piece:
    """Text ready to show, never a part of a character, and the tokens that made it."""

    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Moved:
    """The answer goes on over another route: a donor was lost or is leaving."""

    route: Route
    seconds: float
    """From the last token over the old route to the first over the new one."""


@dataclass(frozen=True)
class Waiting:
    """The answer stands still: these layers have no donor that takes part. It goes on when one comes."""

    missing: tuple[Span, ...]
    why: str = ""
    """Why the last donor of them is out, as a clause; empty where there was none."""


@dataclass(frozen=True)
class Ended:
    finish: Finish
    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    seconds: float
    first_token_seconds: float
    tokens_per_second: float
    """New tokens after the first, over the time since the first; 0 with fewer than two."""
    predicted_seconds: float = 0.0
    """What a token was predicted to take when the route was opened; 0 where nothing was predicted."""

    @property
    def token_seconds(self) -> float:
        """What a token after the first did take; 0 with fewer than two."""
        return 1 / self.tokens_per_second if self.tokens_per_second else 0.0


Event = Started | Piece | Moved | Waiting | Ended


@dataclass(frozen=True)
class ModelCard:
    """What the faces say about the model that the node is set to."""

    model_id: str
    revision: str
    blocks: int
    max_length: int
    licence: str
    kind: Literal["chat", "plain turns", "continues text"]
    """How it takes a conversation: its own template, BLOOMZ's plain turns, or base BLOOM."""
    note: str = ""
    """A sentence to show with it, such as that the bundled model is a demo."""
    questions: tuple[str, ...] = ()
    """Questions that it is known to answer well, offered as buttons."""
