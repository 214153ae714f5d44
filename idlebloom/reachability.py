"""Whether others can reach a swarm's meeting points, as far as can be told from this PC, in words."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from enum import StrEnum

from core.swarm.addresses import BadAddress, split_peer
from core.swarm.reach import Access, answers


class Verdict(StrEnum):
    REACHABLE = "reachable"
    HOME = "only in your home network"
    HERE = "only on this PC"
    NEEDS_MEETING_POINT = "needs a meeting point"
    SILENT = "does not answer"


_BOOTSTRAP = (
    "run idlebloom bootstrap --port 31337 on a PC that the internet reaches, such as a small rented "
    "server, and invite with --meet and the address that it prints."
)
FIXES = {
    Verdict.REACHABLE: "",
    Verdict.HOME: f"PCs elsewhere cannot join. For them, {_BOOTSTRAP}",
    Verdict.HERE: "No other PC can join by this link. If it leads to your own node, start that one "
    "again: from then on it listens beyond this PC. Else run idlebloom bootstrap. Then invite again.",
    Verdict.NEEDS_MEETING_POINT: f"The internet cannot dial this PC. Either {_BOOTSTRAP} Or "
    "forward a port in your router, or try: idlebloom settings set open_router_ports on.",
    Verdict.SILENT: "Start it, check its address, and let its port through its firewall.",
}


async def test(address: str) -> Verdict:
    """One meeting point that somebody else runs, or may run."""
    try:
        place, _ = split_peer(address)
    except BadAddress:
        return Verdict.SILENT
    words = place.split("/")
    if len(words) < 5 or words[1] not in ("ip4", "dns4", "dns") or words[3] != "tcp":
        return Verdict.SILENT
    try:
        found = await asyncio.get_running_loop().getaddrinfo(words[2], None, family=socket.AF_INET)
    except OSError:
        return Verdict.SILENT
    here = ipaddress.ip_address(found[0][4][0])
    if not await answers(str(here), int(words[4])):
        return Verdict.SILENT
    if here.is_loopback:
        return Verdict.HERE
    return Verdict.REACHABLE if here.is_global else Verdict.HOME


async def test_all(addresses: Sequence[str]) -> Verdict:
    """The best of them: one that is reached is enough."""
    found = await asyncio.gather(*(test(address) for address in addresses))
    return min(found, key=list(Verdict).index, default=Verdict.SILENT)


def judged(tested: Verdict, access: Access) -> Verdict:
    """Of this PC's own node or meeting point: what others found counts for more than what it sees itself."""
    match access:
        case Access.PUBLIC:
            return Verdict.REACHABLE
        case Access.CLOSED:
            return Verdict.NEEDS_MEETING_POINT
        case Access.HOME:
            return Verdict.HOME
        case Access.UNKNOWN:
            return tested
