"""What a process's connections have carried on the wire, as the kernel counts it for each of them.

Asked over netlink (``man 7 sock_diag``), which any user may do for sockets of the own network namespace;
which of them are a process's stands in its /proc. Bytes of TCP, sent again ones included, and the headers of
their segments, so that the sum is what a meter at the interface would show. Connections that stay on this PC
are left out unless asked for. What a connection carried after the last look before it closed is not seen.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.meter import Traffic

HEADERS = 52
"""Bytes of IPv4's and TCP's headers, the latter with time stamps."""

_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST_DUMP = 0x301
_INET_DIAG_INFO = 2
_TCP_ESTABLISHED_UP = 0xFFFFFFFF & ~(1 << 10)  # all states but listening
_HEADER = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBBI48x")
_MESSAGE = 72
"""Bytes of inet_diag_msg, after which attributes come."""
_BUFFER = 1 << 18
# Places in struct tcp_info (linux/tcp.h).
_MSS, _BYTES_RECEIVED, _SEGS_OUT, _SEGS_IN, _DELIVERED, _BYTES_SENT = 16, 128, 136, 140, 192, 200
_NEEDED = _BYTES_SENT + 8


@dataclass(frozen=True)
class _Socket:
    inode: int
    local: bool
    carried: Traffic
    arrived: int
    """Bytes sent that the other end has, headers included: of what is lost on the way, each once."""


class Gauge:
    """Adds up what the processes that it is asked about have carried, over connections that come and go;
    those within this PC too if ``within``."""

    def __init__(self, *, within: bool = False) -> None:
        self._within = within
        self.total = Traffic()
        self.arrived = 0
        """Of the bytes sent, those that have reached the other end."""
        self._seen: dict[int, _Socket] = {}

    def look(self, pid: int) -> Traffic:
        """The sum since the beginning, all processes that were ever asked about together. Where the kernel
        does not tell, it stands still."""
        inodes = _inodes(pid)
        now = {
            one.inode: one for one in _sockets() if one.inode in inodes and (self._within or not one.local)
        }
        for inode, one in now.items():
            before = self._seen.get(inode, _Socket(inode, one.local, Traffic(), 0))
            new = one.carried - before.carried
            if new.up >= 0 and new.down >= 0:
                self.total += new
                # Segments that are not full count as full ones there, but not as sent.
                self.arrived += min(max(one.arrived - before.arrived, 0), new.up)
        self._seen = now
        return self.total


def is_available() -> bool:
    """Whether this kernel tells."""
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 4).close()
    except OSError:
        return False
    return True


def _inodes(pid: int) -> frozenset[int]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    except OSError:
        return frozenset()
    return frozenset(found)


def _sockets() -> Iterator[_Socket]:
    """All TCP connections of this network namespace, of IPv4 and IPv6."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 4) as asking:
                asking.settimeout(1.0)
                asked = _ASKED.pack(
                    family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, _TCP_ESTABLISHED_UP
                )
                header = _HEADER.pack(_HEADER.size + len(asked), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
                asking.sendto(header + asked, (0, 0))
                yield from _answers(asking)
        except OSError:
            continue


def _answers(asking: socket.socket) -> Iterator[_Socket]:
    while True:
        data = asking.recv(_BUFFER)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
                return
            found = _parsed(data[at + _HEADER.size : at + length])
            if found is not None:
                yield found
            at += (length + 3) & ~3


def _parsed(message: bytes) -> _Socket | None:
    if len(message) < _MESSAGE:
        return None
    size = 4 if message[0] == socket.AF_INET else 16
    source, target = message[8 : 8 + size], message[24 : 24 + size]
    (inode,) = struct.unpack_from("=I", message, 68)
    info = _info(message[_MESSAGE:])
    if info is None:
        return None
    received, segs_out, segs_in = struct.unpack_from("=QII", info, _BYTES_RECEIVED)
    (mss,) = struct.unpack_from("=I", info, _MSS)
    (delivered,) = struct.unpack_from("=I", info, _DELIVERED)
    (sent,) = struct.unpack_from("=Q", info, _BYTES_SENT)
    carried = Traffic(sent + HEADERS * segs_out, received + HEADERS * segs_in)
    return _Socket(inode, _is_here(source, target), carried, delivered * (mss + HEADERS))


def _info(attributes: bytes) -> bytes | None:
    """The tcp_info among them; older kernels give a shorter one."""
    at = 0
    while at + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, at)
        if length < 4:
            return None
        if kind == _INET_DIAG_INFO:
            info = attributes[at + 4 : at + length]
            return info if len(info) >= _NEEDED else None
        at += (length + 3) & ~3
    return None


def _is_here(source: bytes, target: bytes) -> bool:
    """Whether both ends are on this PC."""
    mapped = target[-4:] if len(target) == 16 and target[:12] == bytes(10) + b"\xff\xff" else target
    return source == target or mapped[:1] == b"\x7f" or target == bytes(15) + b"\1"
