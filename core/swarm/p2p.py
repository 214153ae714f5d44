"""This process in the swarm, over hivemind: libp2p's daemon, its streams, and the DHT.

hivemind's ``P2P`` and ``DHTNode`` run on our own event loop (no ``hivemind.DHT``, which forks).
Streams do not pass through hivemind's Python: see ``core.swarm.control``.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from core.errors import SwarmError
from core.swarm import hive
from core.swarm.addresses import BadAddress, split_peer
from core.swarm.control import Control, DaemonRefused, Listener
from core.swarm.daemon import Daemon, Flags, Reach
from core.swarm.directory import DhtDirectory, Opaque
from core.swarm.identity import BadPeerId, Identity, load_identity, public_key_of
from core.swarm.peer import Handler, Stream, StreamClosed, Unreachable
from core.terms import PeerId

log = logging.getLogger(__name__)

_MEET_SECONDS = 5.0
_LEAVE_SECONDS = 2.0
_CHECK_SECONDS = 30.0


async def start_peer(
    *,
    identity: Path,
    runtime: Path,
    initial_peers: Sequence[str] = (),
    host: str | Sequence[str] = "127.0.0.1",
    client_only: bool = False,
    reach: Reach = "auto",
    relay_for_others: bool = False,
    open_router_ports: bool = False,
) -> HivemindPeer:
    """Joins the swarm behind ``initial_peers`` (full multiaddrs), or begins one if there are none.

    ``identity``: the key file, made where missing. ``runtime``: a private folder for sockets.
    ``host``: an IPv4 address to listen at (any free port), or the multiaddrs to listen at.
    ``client_only``: uses the DHT but stores nothing for it, as workers and PCs behind NAT do.
    ``reach``: ``public`` or ``private`` if the owner knows, else libp2p finds out.
    Raises ``SwarmError`` in words.
    """
    myself = await asyncio.to_thread(load_identity, identity)
    listen = [f"/ip4/{host}/tcp/0"] if isinstance(host, str) else list(host)
    flags = Flags(identity, listen, client_only, reach, relay_for_others, open_router_ports)
    hive.quiet(asyncio.get_running_loop())
    async with AsyncExitStack() as stack:
        importing = asyncio.create_task(asyncio.to_thread(hive.load))  # while p2pd starts
        stack.push_async_callback(_let_end, importing)
        daemon = await Daemon.start(flags, runtime)
        stack.push_async_callback(daemon.stop)
        loaded = await importing
        control, listener = Control(daemon.control, loaded.messages), Listener(loaded.messages)
        await stack.enter_async_context(listener.listening(daemon.listener))
        peer_id, places = await control.identify()
        if peer_id != myself.peer_id:
            raise SwarmError(f"the network process uses another identity than {identity}")
        met = await _meet(control, initial_peers)
        p2p = await _attach(loaded, daemon)
        stack.push_async_callback(p2p.shutdown)
        node = await _join_dht(loaded, p2p, met, client_only)
        peer = HivemindPeer(
            identity=myself,
            daemon=daemon,
            control=control,
            listener=listener,
            node=node,
            directory=DhtDirectory(node, myself, client_only),
            initial_peers=initial_peers,
            stack=stack.pop_all(),
        )
        peer.set_places(places)
        return peer
    raise AssertionError("unreachable")


class HivemindPeer:
    """A peer of the real swarm; made by ``start_peer``."""

    def __init__(
        self,
        *,
        identity: Identity,
        daemon: Daemon,
        control: Control,
        listener: Listener,
        node: Any,
        directory: DhtDirectory,
        initial_peers: Sequence[str],
        stack: AsyncExitStack,
    ) -> None:
        self.peer_id, self.directory = identity.peer_id, directory
        self.addresses: tuple[str, ...] = ()
        self._daemon, self._control, self._listener = daemon, control, listener
        self._node, self._initial_peers, self._stack = node, tuple(initial_peers), stack
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._closed = False
        self._staying = asyncio.create_task(self._stay_joined(), name="stay in the swarm")

    async def serve(self, protocol: str, handler: Handler) -> None:
        known = protocol in self._listener.handlers
        self._listener.handlers[protocol] = handler
        if not known:
            await self._control.take(protocol, self._daemon.listener)

    async def dial(
        self, peer_id: PeerId, addresses: Sequence[str], protocol: str, timeout: float = 5.0
    ) -> Stream:
        places = _places(peer_id, addresses)
        if peer_id == self.peer_id:
            raise Unreachable(peer_id, "it is this peer itself")
        if self._closed or not self._daemon.alive:
            raise Unreachable(peer_id, "this peer has left the swarm")
        try:
            async with asyncio.timeout(timeout):
                stream = await self._control.open(peer_id, places, protocol)
        except TimeoutError:
            raise Unreachable(peer_id, f"no answer within {timeout:g} s") from None
        except DaemonRefused as error:
            raise Unreachable(peer_id, _in_words(str(error), protocol)) from error
        except StreamClosed as error:
            raise Unreachable(peer_id, "this peer has left the swarm") from error
        self._streams.add(stream)
        return stream

    async def died(self) -> None:
        await asyncio.wait({self._daemon.ended})

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._staying.cancel()
        await asyncio.wait({self._staying})
        for stream in tuple(self._streams):
            stream.close()
        if self._daemon.alive:
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._node.shutdown()
            except Exception as error:  # noqa: BLE001 - hivemind's farewell; the daemon ends anyhow
                log.debug("leaving the DHT: %r", error)
        await self._stack.aclose()

    def set_places(self, places: Sequence[str]) -> None:
        self.addresses = tuple(f"{place}/p2p/{self.peer_id}" for place in places)

    async def _stay_joined(self) -> None:
        """hivemind never joins again after an outage, nor notices new addresses."""
        while self._daemon.alive:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                self.set_places((await self._control.identify())[1])
                if self._initial_peers and not self._node.protocol.routing_table.uid_to_peer_id:
                    for peer_id in await _meet(self._control, self._initial_peers):
                        await self._node.protocol.call_ping(_hivemind_id(self._node, peer_id))
            except SwarmError as error:
                log.warning("the swarm is out of reach: %s", error)


async def _let_end(task: asyncio.Task[Any]) -> None:
    """Waits for a thread that cannot be stopped; what it raised was told or does not matter."""
    await asyncio.gather(task, return_exceptions=True)


def _places(peer_id: PeerId, addresses: Sequence[str]) -> list[str]:
    """The usable addresses without their ``/p2p/<id>``; raises ``Unreachable``."""
    try:
        public_key_of(peer_id)
    except BadPeerId as error:
        raise Unreachable(peer_id, str(error)) from error
    places = []
    for address in addresses:
        try:
            place, owner = split_peer(address)
        except BadAddress as error:
            log.debug("ignored an address: %s", error)
            continue
        if owner == peer_id:
            places.append(place)
    return places


def _in_words(message: str, protocol: str) -> str:
    """The daemon's errors are Go's; what they mean is one of few things."""
    lowered = message.lower()
    if "protocol" in lowered and "support" in lowered:
        return f"it does not serve {protocol}"
    if "no addresses" in lowered or "failed to find" in lowered or "not found" in lowered:
        return "none of its addresses is known"
    if "dial" in lowered or "refused" in lowered or "no good addresses" in lowered:
        return "nobody answers at its addresses"
    return message[:200]


async def _meet(control: Control, addresses: Sequence[str]) -> list[PeerId]:
    """Connects to all meeting points at once; those that answered. Raises ``SwarmError`` for none
    of several, and ``BadAddress`` for one that is mistyped."""
    wanted = [split_peer(address) for address in addresses]
    results = await asyncio.gather(*(_answers(control, place, peer) for place, peer in wanted))
    met = [peer for (_, peer), answered in zip(wanted, results, strict=True) if answered]
    if wanted and not met:
        raise SwarmError(
            "none of the swarm's meeting points answers",
            "Check the network and the addresses; perhaps they are not running.",
        )
    return list(dict.fromkeys(met))


async def _answers(control: Control, place: str, peer_id: PeerId) -> bool:
    try:
        async with asyncio.timeout(_MEET_SECONDS):
            await control.connect(peer_id, [place])
    except (SwarmError, TimeoutError, ValueError) as error:
        log.debug("the meeting point %s/p2p/%s: %r", place, peer_id, error)
        return False
    return True


async def _attach(loaded: hive.Hive, daemon: Daemon) -> Any:
    """hivemind's ``P2P`` on our daemon."""

    class OurP2P(loaded.P2P):  # type: ignore[misc, name-defined]
        _UNIX_SOCKET_PREFIX = f"/unix{daemon.folder}/"

    p2p = await OurP2P.replicate(loaded.Multiaddr(f"/unix{daemon.control}"))
    control = p2p._client.control  # noqa: SLF001 - hivemind offers no other way to these tasks
    for task in (control._read_task, control._write_task):  # noqa: SLF001
        # They end with an error when the daemon does, which `died` tells better.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return p2p


async def _join_dht(loaded: hive.Hive, p2p: Any, met: Sequence[PeerId], client_only: bool) -> Any:
    try:
        return await loaded.DHTNode.create(
            p2p=p2p,
            # By default a new one each time: then others keep a peer that was started again under each of
            # its old ids, store everything there as often, and take the refusals of the copies for an answer.
            node_id=loaded.DHTID.generate(source=p2p.peer_id.to_bytes()),
            initial_peers=[f"/p2p/{peer_id}" for peer_id in met],
            client_mode=client_only,
            record_validator=Opaque(),
            # A cached dictionary would hide the records that were stored since.
            cache_locally=False,
            cache_nearest=0,
            cache_on_store=False,
            reuse_get_requests=False,
        )
    except Exception as error:
        raise SwarmError(*_why_not_joined(str(error))) from error


def _why_not_joined(message: str) -> tuple[str, str]:
    if "local time" in message:
        return (
            "this PC's clock differs by more than 3 s from the swarm's",
            "Set the clock, best by switching on network time.",
        )
    if "firewall" in message:
        return (
            "the swarm's meeting points cannot reach this PC",
            "Join as a client, or open the port in the firewall.",
        )
    if "none of the initial_peers responded" in message:
        return (
            "the swarm's meeting points can be reached but do not answer",
            "Perhaps they run another program or version.",
        )
    return f"the swarm cannot be joined: {message[:200]}", ""


def _hivemind_id(node: Any, peer_id: PeerId) -> Any:
    return type(node.peer_id).from_base58(peer_id)
