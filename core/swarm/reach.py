"""Whether others can dial this PC, found out by asking: a peer tries to dial where it sees us.

It dials nothing but the address that the question came from, so nobody can be made to knock elsewhere, and
listens for libp2p's greeting, so another program at that port is no answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgpack

from core.errors import SwarmError
from core.swarm.addresses import split_peer
from core.swarm.guard import Rates
from core.swarm.peer import Stream
from core.swarm.transport import SocketStream
from core.terms import PeerId

log = logging.getLogger(__name__)

REACH = "/idlebloom/1/reach"
DIAL_SECONDS = 3.0
ANSWER_SECONDS = 6.0
ASKED = 3
"""Meeting points that are asked how this PC can be reached, and that may relay to it."""
MOST_PORTS = 4
LOWEST_PORT = 1024
_GREETING = b"\x13/multistream/1.0.0\n"
_LENGTH = 2
_LONGEST = 256

Dial = Callable[[PeerId, Sequence[str], str], Awaitable[Stream]]


class Access(StrEnum):
    """Who can dial this PC, as far as those know who were asked."""

    PUBLIC = "public"
    HOME = "home"
    """Those of the same home network; nobody beyond was asked."""
    CLOSED = "closed"
    """Somebody beyond was asked and could not."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Seen:
    """What one peer found: the address that it sees this PC at, and which of the ports answered."""

    address: str
    open_ports: tuple[int, ...]

    @property
    def beyond(self) -> bool:
        """Whether it looks from beyond the home network."""
        return ipaddress.ip_address(self.address).is_global


class Knocker:
    """The asked side; ``clock`` gives seconds. A few questions a minute of each peer are answered."""

    def __init__(self) -> None:
        self._rates = Rates(0.1, 60.0)

    async def serve(self, stream: Stream) -> None:
        ports = _ports(await _read(stream))
        address = _seen_at(stream)
        now = asyncio.get_running_loop().time()
        if not address or not self._rates.take(stream.remote, 1, now):
            await _write(stream, ["", []])
            return
        tried = await asyncio.gather(*(answers(address, port) for port in ports))
        await _write(stream, [address, [port for port, good in zip(ports, tried, strict=True) if good]])


async def ask(stream: Stream, ports: Iterable[int]) -> Seen | None:
    """What the peer at the other end of a new ``REACH`` stream finds; None where it cannot tell. Raises
    ``SwarmError``."""
    asked = list(dict.fromkeys(ports))[:MOST_PORTS]
    await _write(stream, asked)
    try:
        return _seen(await _read(stream), asked)
    except (ValueError, TypeError) as error:
        raise SwarmError("a meeting point answers nonsense about reachability") from error


def _seen(answer: Any, asked: Iterable[int]) -> Seen | None:
    address, found = answer
    if not address:
        return None
    ipaddress.IPv4Address(address)
    return Seen(address, tuple(port for port in asked if port in found))


def access(found: Iterable[Seen]) -> Access:
    """What follows from all answers: one who could from beyond is enough."""
    seen = list(found)
    beyond = [one for one in seen if one.beyond]
    if any(one.open_ports for one in beyond):
        return Access.PUBLIC
    if beyond:
        return Access.CLOSED
    return Access.HOME if any(one.open_ports for one in seen) else Access.UNKNOWN


@dataclass(frozen=True)
class Around:
    """What meeting points told: who can dial this PC; who of them sees it from beyond its home network, so
    that they can relay to it; and where it is dialled from there."""

    access: Access
    relays: tuple[str, ...]
    outside: tuple[str, ...]


async def look(dial: Dial, meeting_points: Sequence[str], ports: Sequence[int]) -> Around:
    """Asks the first of the meeting points (full addresses) whether they reach these ports."""
    asked = meeting_points[:ASKED]
    answered = await asyncio.gather(*(_ask_at(dial, address, ports) for address in asked))
    found = [seen for seen in answered if seen is not None]
    pairs = zip(asked, answered, strict=True)
    return Around(
        access(found),
        tuple(address for address, seen in pairs if seen is not None and seen.beyond),
        tuple(f"/ip4/{seen.address}/tcp/{port}" for seen in found for port in seen.open_ports),
    )


async def _ask_at(dial: Dial, address: str, ports: Sequence[int]) -> Seen | None:
    place, peer_id = split_peer(address)
    try:
        stream = await dial(peer_id, [address], REACH)
    except SwarmError as error:
        log.debug("%s cannot be asked about reachability: %s", place, error)
        return None
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await ask(stream, ports)
    except (SwarmError, TimeoutError) as error:
        log.debug("%s does not say whether this PC can be reached: %r", place, error)
        return None
    finally:
        stream.close()


async def answers(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                return await reader.readexactly(len(_GREETING)) == _GREETING
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        log.debug("%s:%s does not answer: %r", address, port, error)
        return False


def _seen_at(stream: Stream) -> str:
    """The IPv4 address that the stream came from; nothing where it came through a relay."""
    words = stream.remote_address.split("/") if isinstance(stream, SocketStream) else []
    direct = len(words) == 5 and words[1] == "ip4" and words[3] == "tcp"
    return words[2] if direct else ""


def _ports(value: object) -> list[int]:
    if not isinstance(value, list) or len(value) > MOST_PORTS:
        raise SwarmError("no short list of ports")
    for port in value:
        if isinstance(port, bool) or not isinstance(port, int) or not LOWEST_PORT <= port <= 65535:
            raise SwarmError("not a port that a peer may have")
    return value


async def _write(stream: Stream, value: object) -> None:
    data: bytes = msgpack.packb(value)
    stream.write(len(data).to_bytes(_LENGTH, "big") + data)
    await stream.drain()


async def _read(stream: Stream) -> object:
    length = int.from_bytes(await stream.read(_LENGTH), "big")
    if not 0 < length <= _LONGEST:
        raise SwarmError("a message of a wrong length about reachability")
    try:
        return msgpack.unpackb(await stream.read(length))
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise SwarmError("a message of no shape about reachability") from error
