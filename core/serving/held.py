"""What a donor holds of each session, and the table of all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from core.model.cache import Slot
from core.model.sampling import History
from core.ring.frames import Lane
from core.ring.part import Part
from core.serving.links import Link
from core.swarm.frames import Dtype
from core.swarm.messages import Open
from core.swarm.peer import Stream
from core.terms import PeerId, Span

READER_SECONDS = 10.0
"""For so long after its last step a session counts as someone who reads."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """An opening that was asked for ahead: ready, its streams open, to take over from the epoch before."""

    control: Stream
    message: Open
    links: dict[Lane, Link]


@dataclass(eq=False, slots=True)
class Held:
    """One session's part here with what it needs: cache, neighbours, the client."""

    client: PeerId
    control: Stream
    part: Part
    slot: Slot
    span: Span
    wire: Dtype
    narrow: bool
    """Prompts come and go in int8 blocks."""
    max_length: int
    previous: PeerId
    following: PeerId
    on_this_pc: bool
    """The next stage is reached over loopback."""
    links: dict[Lane, Link]
    opened_at: float
    used_at: float
    history: History | None = None
    standby: list[Link] = field(default_factory=list)
    """Streams kept open to who would replace the next stage."""
    copying: Link | None = None
    """The stream to a replacement that is filled while the next stage still serves."""
    inbound: dict[Lane, Stream] = field(default_factory=dict)
    owed: set[Lane] = field(default_factory=set)
    parked: bool = False
    answered: bool = False
    """A step of an answer was run here."""
    bulk_run: int = -1
    ahead: Ahead | None = None
    freed: bool = False
    hidden: int = 0
    """How many numbers a position's activations are."""

    def dtype_of(self, row_bytes: int, lane: Lane) -> Dtype:
        """How a payload of so many bytes a position is coded: prompts of a narrow session alone are int8."""
        narrow = self.narrow and lane is Lane.BULK and row_bytes == Dtype.INT8.row_bytes(self.hidden)
        return Dtype.INT8 if narrow else self.wire


Key = tuple[bytes, int]


class Table:
    """All parts of sessions that this donor holds, in the order in which they were opened."""

    def __init__(self) -> None:
        self._held: dict[Key, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def get(self, session: bytes, stage: int) -> Held | None:
        return self._held.get((session, stage))

    def put(self, held: Held) -> None:
        self._held[held.part.session, held.part.stage] = held

    def remove(self, held: Held) -> bool:
        """Whether it was there."""
        key = (held.part.session, held.part.stage)
        if self._held.get(key) is not held:
            return False
        del self._held[key]
        return True

    def of(self, client: PeerId, session: bytes) -> list[Held]:
        """A client's parts of a session here: a peer may be several stages of one route."""
        return [held for key, held in self._held.items() if key[0] == session and held.client == client]

    def senders(self, remote: PeerId, session: bytes | None = None) -> list[Held]:
        """Whose frames go to this peer."""
        return [
            held
            for key, held in self._held.items()
            if (session is None or key[0] == session)
            and (held.following == remote or (held.copying is not None and held.copying.remote == remote))
        ]

    @property
    def readers(self) -> int:
        """Sessions that were used a moment ago."""
        now = time.monotonic()
        return len({key[0] for key, held in self._held.items() if now - held.used_at < READER_SECONDS})
