"""This process in the swarm, over hivemind: libp2p's daemon, its streams, and the DHT.

hivemind's ``P2P`` and ``DHTNode`` run on our own event loop (no ``hivemind.DHT``, which forks).
Streams do not pass through hivemind's Python: see ``core.swarm.control``.

A peer stays. What is underneath may die, hang, sleep with the PC, or lose its address or its meeting points:
that is seen within seconds (``core.swarm.watchdog``), told (``trouble``), and put right by a new life of it
(``core.swarm.life``). Streams break then, and who uses them dials again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from core import words
from core.errors import SwarmError
from core.swarm import hive
from core.swarm.addresses import split_peer
from core.swarm.control import DaemonRefused
from core.swarm.daemon import Reach, Relaying
from core.swarm.directory import DhtDirectory
from core.swarm.identity import Identity, load_identity
from core.swarm.life import Joining, Life
from core.swarm.peer import Handler, Stream, StreamClosed, Unreachable
from core.swarm.places import any_port, in_words, own_addresses, same_ports, usable
from core.swarm.reach import REACH, Access, Knocker, look
from core.swarm.secret import NotAMember, Secret, prove
from core.swarm.transport import SocketStream
from core.swarm.watchdog import CLOCK_SECONDS, Do, Signs, Watchdog
from core.terms import Because, PeerId, Reason

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often the watchdog looks."""
HUNG_SECONDS = 3.0
MEET_AGAIN_SECONDS = (0.0, 2.0, 5.0, 10.0, 20.0)
RENEW_SECONDS = (0.0, 1.0, 3.0, 10.0)
"""Pauses before a network process that does not start is started again; the last one repeats."""
CLOCK_LOOK_SECONDS = 60.0
RELAY_SECONDS = 5.0


async def start_peer(
    *,
    identity: Path,
    runtime: Path,
    initial_peers: Sequence[str] = (),
    host: str | Sequence[str] = "127.0.0.1",
    client_only: bool = False,
    reach: Reach = "auto",
    relaying: Relaying | None = None,
    open_router_ports: bool = False,
    secret: Secret | None = None,
    patient: bool = False,
) -> HivemindPeer:
    """Joins the swarm behind ``initial_peers`` (full multiaddrs), or begins one if there are none.

    ``identity``: the key file, made where missing. ``runtime``: a private folder for sockets.
    ``host``: an IPv4 address to listen at (any free port), or the multiaddrs to listen at.
    ``client_only``: uses the DHT but stores nothing for it, as workers and PCs behind NAT do.
    ``reach``: ``public`` or ``private`` if the owner knows, else meeting points are asked.
    ``secret``: of a private swarm: nothing is taken from peers without it.
    ``patient``: where the meeting points are out of reach or the clock is wrong, begins all the same, says
    so in ``trouble``, and joins when it can. Raises ``SwarmError`` in words.
    """
    myself = await asyncio.to_thread(load_identity, identity)
    for address in initial_peers:
        split_peer(address)  # a mistyped one is said before anything is started
    listen = (f"/ip4/{host}/tcp/0",) if isinstance(host, str) else tuple(host)
    how = Joining(identity, runtime, listen, client_only, reach, relaying, open_router_ports, secret)
    hive.quiet(asyncio.get_running_loop())
    peer = HivemindPeer(myself, how, tuple(initial_peers))
    try:
        await peer.begin(patient=patient)
    except BaseException:
        await peer.close()
        raise
    return peer


class HivemindPeer:
    """A peer of the real swarm; made by ``start_peer``."""

    def __init__(self, identity: Identity, how: Joining, initial_peers: tuple[str, ...]) -> None:
        self.peer_id, self.addresses = identity.peer_id, ()
        self.directory = DhtDirectory(identity)
        self.trouble: Because | None = None
        self.access = Access.UNKNOWN
        self.watchers: list[Callable[[], None]] = []
        self._identity, self._how, self._initial_peers = identity, how, initial_peers
        self._handlers: dict[str, Handler] = {}
        self._life: Life | None = None
        self._alive, self._closed = asyncio.Event(), asyncio.Event()
        self._streams: weakref.WeakSet[SocketStream] = weakref.WeakSet()
        self._watchdog = Watchdog(wide=how.wide, has_meeting_points=bool(initial_peers))
        self._behind, self._clock_at = 0.0, float("-inf")
        self._admitted = True
        self._outside: tuple[str, ...] = ()
        self._relays: tuple[str, ...] = ()
        self._meetings, self._meet_at = 0, 0.0
        self._staying: asyncio.Task[None] | None = None

    addresses: tuple[str, ...]

    # What users of a peer call

    @property
    def pid(self) -> int | None:
        return self._life.daemon.process.pid if self._life is not None else None

    @property
    def reach(self) -> str:
        """As a record says it."""
        if any("/p2p-circuit/" in address for address in self.addresses):
            return "relay"
        return "dial-out" if self.access is Access.CLOSED else "public"

    @property
    def behind(self) -> float | None:
        """Seconds that this PC's clock is behind its meeting points', as last told."""
        return None if math.isinf(self._clock_at) else self._behind

    async def serve(self, protocol: str, handler: Handler) -> None:
        known = protocol in self._handlers
        self._handlers[protocol] = handler
        if not known and self._life is not None:
            await self._life.control.take(protocol, self._life.daemon.listener)

    async def dial(
        self, peer_id: PeerId, addresses: Sequence[str], protocol: str, timeout: float = 5.0
    ) -> Stream:
        places = usable(peer_id, addresses)
        if peer_id == self.peer_id:
            raise Unreachable(peer_id, "it is this peer itself")
        if self._closed.is_set():
            raise Unreachable(peer_id, "this peer has left the swarm")
        try:
            async with asyncio.timeout(timeout):
                await self._alive.wait()
                return await self._dial(peer_id, places, protocol)
        except TimeoutError:
            raise Unreachable(peer_id, f"no answer within {timeout:g} s") from None
        except DaemonRefused as error:
            raise Unreachable(peer_id, in_words(str(error), protocol)) from error
        except NotAMember as error:
            raise Unreachable(peer_id, str(error)) from error
        except StreamClosed as error:
            raise Unreachable(peer_id, "the connection broke") from error

    async def _dial(self, peer_id: PeerId, places: Sequence[str], protocol: str) -> SocketStream:
        assert self._life is not None
        stream = await self._life.control.open(peer_id, places, protocol)
        self._streams.add(stream)
        if self._how.secret is not None:
            try:
                await prove(stream, self._how.secret, self.peer_id, protocol)
            except BaseException:
                stream.close()
                raise
        return stream

    async def drop(self, peer_id: PeerId) -> None:
        life = self._life
        if life is None:
            return
        try:
            async with asyncio.timeout(HUNG_SECONDS):
                await life.control.disconnect(peer_id)
        except (SwarmError, TimeoutError) as error:
            log.debug("the connection to %s cannot be closed: %r", peer_id[-8:], error)
        for stream in tuple(self._streams):
            if stream.remote == peer_id:
                stream.close()

    async def died(self) -> None:
        await self._closed.wait()

    async def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        if self._staying is not None:
            self._staying.cancel()
            await asyncio.wait({self._staying})
        await self._end_life()

    # Lives

    async def begin(self, *, patient: bool) -> None:
        """The first life. Raises ``SwarmError``."""
        if not self._how.client_only:
            self._handlers[REACH] = Knocker().serve
        await self._new_life()
        try:
            await self._meet(strict=not patient)
        except SwarmError as error:
            if not patient:
                raise
            log.warning("joining the swarm: %s", error)
        await self._find_access()
        signs = await self._signs()
        self._watchdog.judge(signs)
        self._say(self._watchdog.trouble(signs))
        self._staying = asyncio.create_task(self._stay(), name="stay in the swarm")

    async def _new_life(self) -> None:
        try:
            life = await Life.begin(self._how, self._identity, self._handlers)
        except SwarmError:
            # Perhaps another program has taken the port of the life before.
            free = tuple(any_port(place) for place in self._how.listen)
            if free == self._how.listen or not self.addresses:
                raise
            self._how = replace(self._how, listen=free)
            life = await Life.begin(self._how, self._identity, self._handlers)
        self._life = life
        self._how = replace(self._how, listen=same_ports(self._how.listen, life.places))
        self.directory.use(life.node, client_only=self._how.client_only)
        self._set_places(life.places)
        self._alive.set()

    async def _end_life(self) -> None:
        self._alive.clear()
        life, self._life = self._life, None
        self.directory.use(None, client_only=self._how.client_only)
        for stream in tuple(self._streams):
            stream.close()
        if life is not None:
            await life.end()

    async def _renew(self, why: str) -> None:
        """Ends what is left of this life, and tries until the next has begun."""
        log.warning("the network process is started again: %s", why)
        self._say(Because(Reason.NETWORK_RESTARTS, {"why": why}))
        await self._end_life()
        tries = 0
        while True:
            await asyncio.sleep(RENEW_SECONDS[min(tries, len(RENEW_SECONDS) - 1)])
            tries += 1
            try:
                await self._new_life()
                break
            except SwarmError as error:
                log.warning("the network process cannot be started: %s", error)
        self._watchdog.forget()
        with suppress(SwarmError):
            await self._meet()

    # Watching

    async def _stay(self) -> None:
        while True:
            try:
                await self._look()
            except SwarmError as error:
                log.warning("staying in the swarm: %s", error)
            except Exception:
                log.exception("staying in the swarm")
            if self._life is None:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await asyncio.wait({self._life.daemon.ended}, timeout=LOOK_SECONDS)

    async def _look(self) -> None:
        if self._life is None or not self._life.daemon.alive:
            await self._renew("it ended")
        signs = await self._signs()
        match self._watchdog.judge(signs):
            case Do.RENEW:
                await self._renew(self._watchdog.why)
                await self._find_access()
                signs = await self._signs()
            case Do.MEET:
                await self._meet_again()
                signs = await self._signs()
            case Do.TELL | Do.NOTHING:
                self._meetings = 0
        if self._initial_peers and time.monotonic() - self._clock_at > CLOCK_LOOK_SECONDS and signs.connected:
            await self._meet()
            signs = replace(signs, behind=self._behind)
        self._say(self._watchdog.trouble(signs))

    async def _signs(self) -> Signs:
        answers, connected = False, 0
        if self._life is not None:
            with suppress(SwarmError, TimeoutError):
                async with asyncio.timeout(HUNG_SECONDS):
                    self._set_places((await self._life.control.identify())[1])
                    connected = len(await self._life.control.connected())
                    answers = True
        return Signs(
            steady=time.monotonic(),
            through_sleep=time.clock_gettime(time.CLOCK_BOOTTIME),
            wall=time.time(),
            answers=answers,
            places=own_addresses() if self._how.wide else frozenset(),
            connected=connected,
            admitted=self._admitted,
            behind=self._behind,
        )

    async def _meet_again(self) -> None:
        """After a while, and after longer and longer ones."""
        now = time.monotonic()
        if now < self._meet_at:
            return
        self._meet_at = now + MEET_AGAIN_SECONDS[min(self._meetings, len(MEET_AGAIN_SECONDS) - 1)]
        self._meetings += 1
        before = self.access
        if await self._meet() and before is Access.UNKNOWN:
            await self._find_access()

    async def _meet(self, *, strict: bool = False) -> bool:
        """Joins behind the meeting points; whether one answered. ``strict``: raises where none does or the
        clock is too wrong."""
        if not self._initial_peers or self._life is None:
            return False
        self._admitted = False
        behind = await self._life.meet(self._initial_peers)
        self._admitted = True
        if behind is None:
            if strict:
                raise SwarmError(
                    "none of the swarm's meeting points answers",
                    "Check the network and the addresses; perhaps they are not running.",
                )
            return False
        self._behind, self._clock_at = behind, time.monotonic()
        if strict and abs(behind) > CLOCK_SECONDS:
            raise SwarmError(
                f"this PC's clock differs by more than 3 s from the swarm's: by {abs(behind):.0f} s",
                "Set the clock, best by switching on network time.",
            )
        self._changed()
        return True

    # Reachability

    async def _find_access(self) -> None:
        """Asks meeting points whether this PC can be dialled; where it cannot, has them relay to it."""
        if not self._how.wide or self._how.reach == "public" or not self._initial_peers:
            return
        if not self._how.relays:
            await self._ask_around()
        if self.access is Access.CLOSED and self._relays and not self._how.relays:
            self._how = replace(self._how, relays=self._relays, client_only=True)
            await self._renew("this PC cannot be dialled, so that it needs a relay")
        if self._how.relays:
            await self._until_relayed()

    async def _ask_around(self) -> None:
        ports = [int(place.split("/")[4]) for place in self._how.listen if "/tcp/" in place]
        found = await look(self.dial, self._initial_peers, ports)
        self.access, self._relays, self._outside = found.access, found.relays, found.outside
        if self._how.reach == "private" and self.access is Access.UNKNOWN:
            self.access = Access.CLOSED
        if self._life is not None:
            self._set_places(self._life.places)

    async def _until_relayed(self) -> None:
        """A reservation takes a moment; without one within a few seconds, it is left to later looks."""
        with suppress(SwarmError, TimeoutError):
            async with asyncio.timeout(RELAY_SECONDS):
                while self.reach != "relay" and self._life is not None:
                    self._set_places((await self._life.control.identify())[1])
                    await asyncio.sleep(0.1)

    # Telling

    def _set_places(self, places: Sequence[str]) -> None:
        if self._life is not None:
            self._life.places = tuple(places)
        known = dict.fromkeys((*self._outside, *places))
        addresses = tuple(f"{place}/p2p/{self.peer_id}" for place in known)
        if addresses != self.addresses:
            self.addresses = addresses
            self._changed()

    def _say(self, trouble: Because | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble is not None:
                log.warning("trouble in the network: %s", words.text(trouble))
            self._changed()

    def _changed(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()
