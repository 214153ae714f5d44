"""Which Unix user is at the other end of a loopback connection.

TCP tells nobody, but Linux lists the owner of each socket in /proc/net/tcp. Other systems: unknown.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

KERNEL = Path("/proc/sys/kernel/osrelease")
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


@dataclass(frozen=True)
class Ends:
    """A connection as the server sees it."""

    server: tuple[str, int]
    client: tuple[str, int]


def is_stranger(ends: Ends, tables: tuple[Path, ...] = TABLES, kernel: Path = KERNEL) -> bool:
    """Does the other end belong to another user of this PC? Unknown counts as no. Inside Windows' Linux root
    is none: what comes from Windows is brought by a program of root's there."""
    owners = _owners(tables)
    if _key(*ends.server) + _key(*ends.client) not in owners:
        return False  # the table does not list even our own end: it says nothing here
    owner = owners.get(_key(*ends.client) + _key(*ends.server))
    # A client that has already gone is listed no more; one that waits for an answer always is.
    return owner != os.getuid() and not (owner == 0 and _is_windows(kernel))


def _is_windows(kernel: Path) -> bool:
    try:
        return "microsoft" in kernel.read_text().lower()
    except OSError:
        return False


def ends_of(connection: socket.socket) -> Ends:
    here, there = connection.getsockname(), connection.getpeername()
    return Ends((here[0], here[1]), (there[0], there[1]))


Key = tuple[IPv4Address | IPv6Address, int]


def _owners(tables: tuple[Path, ...]) -> dict[tuple[object, ...], int]:
    owners: dict[tuple[object, ...], int] = {}
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            owners[_parse(fields[1]) + _parse(fields[2])] = int(fields[7])
    return owners


def _parse(end: str) -> Key:
    """``0100007F:1E22``: the address in words of host byte order, the port as a plain number."""
    address, port = end.split(":")
    raw = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
    return _plain(ip_address(raw)), int(port, 16)


def _key(address: str, port: int) -> Key:
    return _plain(ip_address(address)), port


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 connection made from an IPv6 socket is listed as ::ffff:127.0.0.1."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
