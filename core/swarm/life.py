"""One life of this peer's network underneath: p2pd, the sockets to it, and hivemind's hash table on top.

It is begun as a whole and ended as a whole. A peer outlives its lives (``core.swarm.p2p``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from core.errors import SwarmError
from core.swarm import hive
from core.swarm.addresses import split_peer
from core.swarm.control import Control, Listener
from core.swarm.daemon import Daemon, Flags, Reach, Relaying
from core.swarm.directory import Opaque
from core.swarm.identity import Identity
from core.swarm.peer import Handler
from core.swarm.secret import Secret
from core.terms import PeerId

log = logging.getLogger(__name__)

MEET_SECONDS = 5.0
NEAR_SECONDS = 3.0
_LEAVE_SECONDS = 2.0


@dataclass(frozen=True)
class Joining:
    """How a peer takes part. ``relays``: it cannot be dialled, and these relay to it."""

    identity: Path
    runtime: Path
    listen: tuple[str, ...]
    client_only: bool = False
    reach: Reach = "auto"
    relaying: Relaying | None = None
    open_router_ports: bool = False
    secret: Secret | None = None
    relays: tuple[str, ...] = ()

    @property
    def wide(self) -> bool:
        """Whether it listens beyond this PC."""
        return any(not place.startswith("/ip4/127.") for place in self.listen)

    def flags(self) -> Flags:
        return Flags(
            identity=self.identity,
            listen=self.listen,
            client_only=self.client_only,
            reach="private" if self.relays else self.reach,
            relaying=self.relaying,
            open_router_ports=self.open_router_ports,
            relays=self.relays,
        )


class Life:
    """Made by ``begin``."""

    def __init__(
        self,
        daemon: Daemon,
        control: Control,
        listener: Listener,
        node: Any,
        stack: AsyncExitStack,
    ) -> None:
        self.daemon, self.control, self.listener = daemon, control, listener
        self.node, self._stack = node, stack
        self.places: tuple[str, ...] = ()

    @classmethod
    async def begin(cls, how: Joining, myself: Identity, handlers: Mapping[str, Handler]) -> Self:
        """Raises ``SwarmError``."""
        async with AsyncExitStack() as stack:
            importing = asyncio.create_task(asyncio.to_thread(hive.load))  # while p2pd starts
            stack.push_async_callback(_let_end, importing)
            daemon = await Daemon.start(how.flags(), how.runtime)
            stack.push_async_callback(daemon.stop)
            loaded = await importing
            control = Control(daemon.control, loaded.messages)
            listener = Listener(loaded.messages, handlers, myself.peer_id, how.secret)
            await stack.enter_async_context(listener.listening(daemon.listener))
            peer_id, places = await control.identify()
            if peer_id != myself.peer_id:
                raise SwarmError(f"the network process uses another identity than {how.identity}")
            p2p = await _attach(loaded, daemon)
            stack.push_async_callback(p2p.shutdown)
            node = await _hash_table(loaded, p2p, how)
            for protocol in handlers:
                await control.take(protocol, daemon.listener)
            life = cls(daemon, control, listener, node, stack.pop_all())
            life.places = places
            return life
        raise AssertionError("unreachable")

    async def end(self) -> None:
        if self.daemon.alive:
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self.node.shutdown()
            except Exception as error:  # noqa: BLE001 - hivemind's farewell; the daemon ends anyhow
                log.debug("leaving the DHT: %r", error)
        await self._stack.aclose()

    async def meet(self, addresses: Sequence[str]) -> float | None:
        """Connects to all meeting points at once, and gets to know who is near in the hash table. How many
        seconds this PC's clock is behind theirs, by the one who says the least; None where none answers.
        Raises ``BadAddress`` for one that is mistyped, ``SwarmError`` where they answer but let nobody in."""
        wanted = [split_peer(address) for address in addresses]
        met = await asyncio.gather(*(self._reaches(place, peer) for place, peer in wanted))
        there = dict.fromkeys(peer for (_, peer), answers in zip(wanted, met, strict=True) if answers)
        if not there:
            return None
        told = await asyncio.gather(*(self._hello(peer) for peer in there))
        behind = [seconds for seconds in told if seconds is not None]
        if not behind:
            raise SwarmError(
                "the swarm's meeting points can be reached but do not answer",
                "Perhaps they run another version, or the swarm is private: ask for an invite link.",
            )
        await self._look_near()
        return min(behind, key=abs)

    async def _reaches(self, place: str, peer_id: PeerId) -> bool:
        try:
            async with asyncio.timeout(MEET_SECONDS):
                await self.control.connect(peer_id, [place])
        except (SwarmError, TimeoutError, ValueError) as error:
            log.debug("the meeting point %s/p2p/%s: %r", place, peer_id, error)
            return False
        return True

    async def _hello(self, peer_id: PeerId) -> float | None:
        try:
            behind: float | None = await self.node.protocol.meet(self.hivemind_id(peer_id))
        except Exception as error:  # noqa: BLE001 - hivemind raises whatever its parts raise
            log.debug("%s does not let us in: %r", peer_id, error)
            return None
        return behind

    async def _look_near(self) -> None:
        try:
            async with asyncio.timeout(NEAR_SECONDS):
                await self.node.find_nearest_nodes([self.node.node_id])
        except TimeoutError:
            log.debug("the hash table is slow to answer")

    def hivemind_id(self, peer_id: PeerId) -> Any:
        return type(self.node.peer_id).from_base58(peer_id)


async def _let_end(task: asyncio.Task[Any]) -> None:
    """Waits for a thread that cannot be stopped; what it raised was told or does not matter."""
    await asyncio.gather(task, return_exceptions=True)


async def _attach(loaded: hive.Hive, daemon: Daemon) -> Any:
    """hivemind's ``P2P`` on our daemon."""

    class OurP2P(loaded.P2P):  # type: ignore[misc, name-defined]
        _UNIX_SOCKET_PREFIX = f"/unix{daemon.folder}/"

    p2p = await OurP2P.replicate(loaded.Multiaddr(f"/unix{daemon.control}"))
    control = p2p._client.control  # noqa: SLF001 - hivemind offers no other way to these tasks
    for task in (control._read_task, control._write_task):  # noqa: SLF001
        # They end with an error when the daemon does, which `ended` tells better.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return p2p


async def _hash_table(loaded: hive.Hive, p2p: Any, how: Joining) -> Any:
    try:
        node = await loaded.make_node(
            how.secret,
            p2p,
            client_mode=how.client_only,
            record_validator=Opaque(),
            # A cached dictionary would hide the records that were stored since.
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            reuse_get_requests=False,
        )
    except Exception as error:
        raise SwarmError(f"the swarm's hash table cannot be used: {str(error)[:200]}") from error
    return node
