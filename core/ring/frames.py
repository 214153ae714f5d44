"""What stages and client say to each other, as frozen values; ``core.ring`` says by which rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from core.terms import Finish, Sampling, Token


class Lane(IntEnum):
    """Prompts and answers travel apart, so that a prompt never blocks an answer. A session's frames
    of one turn change lane only when the last prompt chunk has been around, so order is kept."""

    BULK = 0
    DECODE = 1


class Breach(StrEnum):
    """Why a stage's part of a session ended."""

    GAP = "gap"
    POSITION = "position"
    FULL = "full"
    UNREACHABLE = "unreachable"
    NONSENSE = "nonsense"
    INPUT = "input"
    """What the stage before sent is nonsense."""
    LAPSED = "lapsed"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Frame:
    """Activations, or token ids for the entry, of ``count`` positions from ``start``.
    ``stage`` is the receiver's index in the route; ``payload`` is opaque here."""

    session: bytes
    stage: int
    epoch: int
    lane: Lane
    hop: int
    rollback: int
    start: int
    count: int
    payload: Any


@dataclass(frozen=True, slots=True)
class Ack:
    """To the sender of a lane: hops up to ``received`` have arrived, up to ``run`` were run.
    ``stage`` is the index of the acknowledging stage."""

    session: bytes
    stage: int
    epoch: int
    lane: Lane
    received: int
    run: int


@dataclass(frozen=True, slots=True)
class Turn:
    """To the tail, from the client: the ids from ``start`` on, and how to draw what follows them.
    The answer begins at ``answer_from``, at or before the end of the ids."""

    session: bytes
    epoch: int
    rollback: int
    start: int
    ids: tuple[int, ...]
    answer_from: int
    sampling: Sampling
    stops: frozenset[int]

    @property
    def end(self) -> int:
        return self.start + len(self.ids)


@dataclass(frozen=True, slots=True)
class Drawn:
    """From the tail to the client: tokens at consecutive positions; ``finish`` when a stop id ended it."""

    session: bytes
    epoch: int
    rollback: int
    tokens: tuple[Token, ...]
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """To every stage: have cache for the positions below ``upto`` before they are begun."""

    session: bytes
    epoch: int
    upto: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The stage's answer to ``Reserve``."""

    session: bytes
    stage: int
    epoch: int
    upto: int


@dataclass(frozen=True, slots=True)
class Grant:
    """To the tail: positions below ``credit`` are reserved at every stage."""

    session: bytes
    epoch: int
    rollback: int
    credit: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """To every stage: the client stopped; only positions below ``length`` stay."""

    session: bytes
    epoch: int
    rollback: int
    length: int


@dataclass(frozen=True, slots=True)
class Resume:
    """To every stage, once all have acknowledged a new epoch: keep the positions below ``keep``, and
    send on what follows ``emit_from``, from the log first. One peer may be several stages."""

    session: bytes
    stage: int
    epoch: int
    rollback: int
    keep: int
    emit_from: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a stage holds as an epoch begins: its cache below ``length``, run under ``rollback``, and
    its outputs from ``log_from`` on."""

    rollback: int = 0
    length: int = 0
    log_from: int = 0


@dataclass(frozen=True, slots=True)
class Broken:
    """From a stage to the client: its part of the session has ended."""

    session: bytes
    stage: int
    epoch: int
    breach: Breach
    why: str


Action = Frame | Ack | Drawn | Reserved | Broken
Request = Frame | Ack | Turn | Resume | Reserve | Grant | Truncate

NOWHERE = 1 << 24
"""Beyond every position: a stage that emits from here on sends nothing."""

TURN = 1 << 32
"""What a turn or a stop adds to the rollback count; below it there is room for the tail's own."""


def turn_of(rollback: int) -> int:
    """The client's part of a rollback count, without what the tail has added."""
    return rollback - rollback % TURN
