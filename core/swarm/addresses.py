"""Multiaddrs (``/ip4/1.2.3.4/tcp/4001/p2p/12D3…``) as text and as libp2p's bytes.

hivemind's own class writes the peer id in ``/p2p/`` as a CID, which libp2p refuses inside the
address of a relay; and it would bring all of hivemind along.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import SwarmError
from core.swarm.identity import base58_decode, base58_encode
from core.terms import PeerId

_ADVICE = "An address looks like /ip4/1.2.3.4/tcp/4001/p2p/12D3Koo…"


class BadAddress(SwarmError):
    """Text or bytes that are no address known here."""


@dataclass(frozen=True)
class _Part:
    code: int
    name: str
    size: int | None
    """Bytes of the value; 0: none; None: a length comes first."""
    encode: Callable[[str], bytes] = lambda text: b""
    decode: Callable[[bytes], str] = lambda data: ""


def _port(text: str) -> bytes:
    return int(text).to_bytes(2)


def _port_text(data: bytes) -> str:
    return str(int.from_bytes(data))


_PARTS = (
    _Part(4, "ip4", 4, lambda t: ipaddress.IPv4Address(t).packed, lambda d: str(ipaddress.IPv4Address(d))),
    _Part(41, "ip6", 16, lambda t: ipaddress.IPv6Address(t).packed, lambda d: str(ipaddress.IPv6Address(d))),
    _Part(6, "tcp", 2, _port, _port_text),
    _Part(273, "udp", 2, _port, _port_text),
    _Part(460, "quic", 0),
    _Part(461, "quic-v1", 0),
    _Part(290, "p2p-circuit", 0),
    _Part(477, "ws", 0),
    _Part(53, "dns", None, str.encode, bytes.decode),
    _Part(54, "dns4", None, str.encode, bytes.decode),
    _Part(55, "dns6", None, str.encode, bytes.decode),
    _Part(56, "dnsaddr", None, str.encode, bytes.decode),
    _Part(421, "p2p", None, base58_decode, base58_encode),
)
_BY_NAME = {part.name: part for part in _PARTS}
_BY_CODE = {part.code: part for part in _PARTS}


def to_bytes(address: str) -> bytes:
    """libp2p's bytes of an address; raises ``BadAddress``."""
    words = iter(address.split("/"))
    data = bytearray()
    try:
        if next(words) != "":
            raise BadAddress(f"{address!r} does not begin with /", _ADVICE)
        for word in words:
            part = _BY_NAME[word]
            data += varint(part.code)
            if part.size != 0:
                value = part.encode(next(words))
                data += value if part.size else varint(len(value)) + value
    except (KeyError, ValueError, OverflowError, StopIteration, RuntimeError) as error:
        raise BadAddress(f"{address!r} is not an address of a peer", _ADVICE) from error
    return bytes(data)


def to_text(data: bytes) -> str:
    """The address in libp2p's bytes; raises ``BadAddress``."""
    rest, text = memoryview(data), ""
    try:
        while rest:
            code, rest = _take_varint(rest)
            part = _BY_CODE[code]
            text += "/" + part.name
            if part.size != 0:
                size, rest = (part.size, rest) if part.size else _take_varint(rest)
                if len(rest) < size:
                    raise BadAddress("an address that ends too early")
                text += "/" + part.decode(bytes(rest[:size]))
                rest = rest[size:]
    except (KeyError, ValueError, IndexError) as error:
        raise BadAddress("an address of a kind that is not known here") from error
    return text


def split_peer(address: str) -> tuple[str, PeerId]:
    """An address without its last ``/p2p/<id>``, and that id; raises ``BadAddress``."""
    place, found, peer_id = address.rpartition("/p2p/")
    if not found or "/" in peer_id:
        raise BadAddress(f"{address!r} does not end in /p2p/ and a peer id", _ADVICE)
    to_bytes(address)
    return place, PeerId(peer_id)


def varint(number: int) -> bytes:
    """Base-128, least significant group first, as in protobuf."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _take_varint(data: memoryview) -> tuple[int, memoryview]:
    number = 0
    for index in range(5):
        number |= (data[index] & 0x7F) << (7 * index)
        if data[index] < 0x80:
            return number, data[index + 1 :]
    raise BadAddress("a number that is too long")
