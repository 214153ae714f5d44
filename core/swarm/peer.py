"""What the rest of Idlebloom needs of the network: peers that dial each other, and a directory.

Two things implement it: ``core.swarm.p2p`` over hivemind's libp2p, and ``core.swarm.fake`` in
memory. Nothing outside ``core.swarm`` sees more of a network than this page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from core.errors import SwarmError
from core.swarm.identity import Identity
from core.terms import Because, ModelRef, PeerId, Record, Span


class StreamClosed(SwarmError):
    """The stream ended: the other side closed it, or the connection is gone."""


class Unreachable(SwarmError):
    """A peer could not be dialled. ``why`` is a clause such as ``no answer within 5 s``."""

    def __init__(self, peer_id: PeerId, why: str) -> None:
        super().__init__(f"the peer {peer_id[-8:]} cannot be reached: {why}")
        self.peer_id, self.why = peer_id, why


class Silent(Unreachable):
    """There is a connection to the peer, but no answer over it."""

    def __init__(self, peer_id: PeerId) -> None:
        super().__init__(peer_id, "it does not answer")


class Stream(Protocol):
    """Bytes both ways between two peers, in order, encrypted. One reader at a time."""

    @property
    def remote(self) -> PeerId:
        """Who is at the other end, as libp2p has proved it."""

    @property
    def closed(self) -> bool:
        """True once nothing more can be written."""

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        """Queues the parts, one after the other, without waiting and without joining them.

        The parts are handed over: they must not be changed afterwards. Raises ``StreamClosed``.
        """

    async def drain(self) -> None:
        """Waits while too much is queued; returns at once otherwise. Raises ``StreamClosed``."""

    async def read(self, n: int) -> bytes:
        """Exactly ``n`` bytes. Raises ``StreamClosed`` if the stream ends before them."""

    def close(self) -> None:
        """Ends both directions; what was queued is still sent. Closing twice is harmless."""


Handler = Callable[[Stream], Awaitable[None]]
"""Serves one incoming stream. The stream is closed when it returns or raises; what it raises is
logged and ends nothing else."""


class Directory(Protocol):
    """The records that donors announce, as one peer sees and signs them."""

    async def announce(self, record: Record, signer: Identity | None = None) -> Record:
        """Signs and stores the record of this peer, valid for 90 s from now, and returns it as
        stored: ``expires_at`` is set here. ``signer`` is whose it is, where it is not this peer's own.
        Raises ``SwarmError`` when no peer took it."""

    async def withdraw(self, record: Record, signer: Identity | None = None) -> Record:
        """Replaces an announced record by one that says *leaving*, and returns that. ``signer`` is whose it
        is, where it is not this peer's own. Raises ``SwarmError`` if nobody took it."""

    async def read(self, model: ModelRef, layers: Span | None = None) -> tuple[Record, ...]:
        """The verified, unexpired records of donors of this model (only of those whose span
        shares a band of 8 layers with ``layers``, when given), *leaving* ones included."""

    async def models(self) -> tuple[ModelRef, ...]:
        """The models that somebody announces in this swarm."""

    def sealed(self, record: Record) -> bytes:
        """The signed bytes of a record that this directory has announced or read, to prove it to
        others (``records.open_sealed``). Raises ``SwarmError`` for one it has not."""


class Peer(Protocol):
    """This process in the swarm."""

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Full multiaddrs at which others can dial this peer, each ending in ``/p2p/`` and its id."""

    @property
    def directory(self) -> Directory: ...

    @property
    def pid(self) -> int | None:
        """The process whose connections carry its traffic, if there is one."""

    @property
    def reach(self) -> str:
        """How others reach it, as a record says it: ``public``, ``dial-out`` or ``relay``."""

    @property
    def trouble(self) -> Because | None:
        """What is wrong with the network now; it is being put right where it can be."""

    @property
    def watchers(self) -> list[Callable[[], None]]:
        """Called after addresses, reach or trouble have changed, and after the swarm was joined again."""

    async def serve(self, protocol: str, handler: Handler) -> None:
        """From now on, streams that others open under this name are given to ``handler``."""

    async def dial(
        self, peer_id: PeerId, addresses: Sequence[str], protocol: str, timeout: float = 5.0
    ) -> Stream:
        """Opens a stream. With a connection to the peer already there, this takes 2 to 3 ms and
        ``addresses`` are not looked at. Raises ``Unreachable`` within ``timeout`` seconds."""

    async def drop(self, peer_id: PeerId) -> None:
        """Closes the connection to a peer with all its streams, so that the next dial makes another. For one
        that carries nothing any more: TCP tries again ever more seldom, long after the way is free."""

    async def died(self) -> None:
        """Returns when this peer has left the swarm: nothing works after that but ``close``."""

    async def close(self) -> None:
        """Closes all streams and leaves the swarm. Closing twice is harmless."""
