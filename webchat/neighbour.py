"""Which Unix user is at the other end of a loopback connection.

TCP tells nobody, but Linux lists the owner of each socket in /proc/net/tcp. Other systems: unknown.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

KERNEL = Path("/proc/sys/kernel/osrelease")
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
MAPPED = "0000000000000000FFFF0000"
"""An IPv4 connection made from an IPv6 socket is listed as ::ffff:127.0.0.1."""
REST = 160
"""More characters than lie between the ends and the owner."""
_turn = threading.Lock()
"""Whoever comes with a hundred tabs at once would have a hundred copies of a long table in memory."""


@dataclass(frozen=True)
class Ends:
    """A connection as the server sees it."""

    server: tuple[str, int]
    client: tuple[str, int]


def is_stranger(ends: Ends, tables: tuple[Path, ...] = TABLES, kernel: Path = KERNEL) -> bool:
    """Does the other end belong to another user of this PC? Unknown counts as no. Inside Windows' Linux root
    is none: what comes from Windows is brought by a program of root's there."""
    with _turn:
        listed = [text for table in tables if (text := _read(table))]
        if _owner(listed, ends.server, ends.client) is None:
            return False  # the table does not list even our own end: it says nothing here
        # A client that has already gone is listed no more; one that waits for an answer always is.
        owner = _owner(listed, ends.client, ends.server)
    return owner != os.getuid() and not (owner == 0 and _is_windows(kernel))


def _is_windows(kernel: Path) -> bool:
    return "microsoft" in _read(kernel).lower()


def ends_of(connection: socket.socket) -> Ends:
    here, there = connection.getsockname(), connection.getpeername()
    return Ends((here[0], here[1]), (there[0], there[1]))


def _read(table: Path) -> str:
    try:
        return table.read_text()
    except OSError:
        return ""


def _owner(tables: list[str], here: tuple[str, int], there: tuple[str, int]) -> int | None:
    """Of the socket with these two ends. Its line is looked for as it is written: reading all of them costs a
    thousand times more where there are hundreds."""
    for words in _spellings(here, there):
        for text in tables:
            at = text.find(words)
            if at >= 0:
                # After the ends come the state, two queues and three more numbers, then the owner.
                rest = at + len(words)
                return int(text[rest : rest + REST].split(None, 5)[4])
    return None


def _spellings(here: tuple[str, int], there: tuple[str, int]) -> Iterator[str]:
    first, second = (_plain(ip_address(end[0])) for end in (here, there))
    prefixes = ("", MAPPED) if isinstance(first, IPv4Address) else ("",)
    for prefix in prefixes:
        yield f" {prefix}{_words(first)}:{here[1]:04X} {prefix}{_words(second)}:{there[1]:04X} "


def _words(address: IPv4Address | IPv6Address) -> str:
    """In words of host byte order: ``0100007F``."""
    raw = address.packed
    return "".join(raw[at : at + 4][::-1].hex() for at in range(0, len(raw), 4)).upper()


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
