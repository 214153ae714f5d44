"""What a client and the stages of its sessions say to each other besides the ring's own messages."""

from __future__ import annotations

from dataclasses import dataclass

from core.ring.frames import (
    Ack,
    Broken,
    Drawn,
    Frame,
    Grant,
    Reserve,
    Reserved,
    Resume,
    Standing,
    Truncate,
    Turn,
)
from core.terms import PeerId, Span, WireDtype


@dataclass(frozen=True, slots=True)
class Open:
    """The client asks a peer to be stage ``stage`` of ``stages``, or to go on so in a new epoch.

    ``previous`` is the only peer whose frames are taken (besides the client's own, at the entry);
    ``following`` is the sealed record of the peer to send to, empty when that is the stage's own peer.
    ``source`` is another session of the same client, as it stood under ``source_rollback``, whose first
    ``shared`` positions are the same tokens: what of them is still held here need not be run again.
    """

    session: bytes
    epoch: int
    rollback: int
    stage: int
    stages: int
    model_id: str
    revision: str
    span: Span
    wire: WireDtype
    max_length: int
    previous: PeerId
    following: bytes
    source: bytes = b""
    source_rollback: int = 0
    shared: int = 0
    narrow: bool = False
    """Prompts travel from stage to stage in int8 blocks."""
    ahead: bool = False
    """The epoch before goes on until something of this one comes: then this one begins."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The stage holds its part, its stream to the next stage is open, and what it has from before."""

    session: bytes
    stage: int
    epoch: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class Refuse:
    """The stage does not take part. ``kind`` is one of ``REFUSALS``."""

    session: bytes
    stage: int
    epoch: int
    kind: str
    why: str


REFUSALS = ("full", "model", "span", "wire", "unreachable", "silent", "leaving", "bad")
"""*unreachable*: the next stage cannot be dialled; *silent*: it does not answer over the stream to it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The client is alive: all its sessions at this peer live on for 15 s. Answered by ``Heard``."""

    number: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a ``Lease``, at once: the time between the two is the way there and back."""

    number: int


@dataclass(frozen=True, slots=True)
class Probe:
    """The client waits longer than it should: every stage says at once how far it is."""

    session: bytes
    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """The answer to a ``Probe``: positions accepted, positions run, under which rollback count, and whether
    a step is under way."""

    session: bytes
    stage: int
    epoch: int
    number: int
    length: int
    ran: int
    rollback: int
    running: bool


@dataclass(frozen=True, slots=True)
class Standby:
    """To a stage: who would replace the next one, as a sealed record; streams to it are kept open."""

    session: bytes
    epoch: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Leaving:
    """To the client: this stage will be gone in so many seconds, and serves until then."""

    session: bytes
    stage: int
    epoch: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Copy:
    """To a stage: send all outputs to that peer too, as its stage before in the epoch ``into``."""

    session: bytes
    epoch: int
    into: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The session's caches may be freed at once."""

    session: bytes


Message = (
    Open
    | Ready
    | Refuse
    | Lease
    | Heard
    | Probe
    | Pulse
    | Standby
    | Leaving
    | Copy
    | Close
    | Frame
    | Ack
    | Turn
    | Resume
    | Drawn
    | Reserve
    | Reserved
    | Grant
    | Truncate
    | Broken
)
