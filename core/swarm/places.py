"""Where a peer listens and can be dialled, and what it means when that fails."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

import psutil

from core.swarm.addresses import BadAddress, split_peer
from core.swarm.identity import BadPeerId, public_key_of
from core.swarm.peer import Unreachable
from core.terms import PeerId

log = logging.getLogger(__name__)


def own_addresses() -> frozenset[str]:
    """This PC's own IPv4 addresses beyond loopback, of interfaces that are up."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return frozenset(
        one.address
        for name, found in psutil.net_if_addrs().items()
        if name in up
        for one in found
        if one.family == socket.AF_INET and not one.address.startswith("127.")
    )


def same_ports(listen: Sequence[str], places: Sequence[str]) -> tuple[str, ...]:
    """What to listen at in the next life: the ports that the first one found, for others know them."""
    ports = [place.split("/")[4] for place in places if place.startswith("/ip4/") and "/p2p" not in place]
    if not ports:
        return tuple(listen)
    return tuple(f"{place[:-1]}{ports[0]}" if place.endswith("/tcp/0") else place for place in listen)


def any_port(place: str) -> str:
    start, found, port = place.rpartition("/tcp/")
    return f"{start}/tcp/0" if found and port.isdigit() else place


def usable(peer_id: PeerId, addresses: Sequence[str]) -> list[str]:
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


def in_words(message: str, protocol: str) -> str:
    """The daemon's errors are Go's; what they mean is one of few things."""
    lowered = message.lower()
    if "protocol" in lowered and "support" in lowered:
        return f"it does not serve {protocol}"
    if "no addresses" in lowered or "failed to find" in lowered or "not found" in lowered:
        return "none of its addresses is known"
    if "dial" in lowered or "refused" in lowered or "no good addresses" in lowered:
        return "nobody answers at its addresses"
    return message[:200]
