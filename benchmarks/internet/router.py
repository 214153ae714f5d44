"""The process that carries the packets: reads them from each host's TUN device and writes them to another's,
late, at a rate, and sometimes not at all.

    python -m benchmarks.internet.router

A packet leaves its host when the uplink has sent everything before it, is on its way for the delays of both
hosts, and is there when the downlink has received everything before it. What would wait longer than a queue
holds is dropped, as in a home router. Requests and answers are lines of JSON; the process ends with its
standard input, and the devices with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEVICE = "wan0"
QUEUE_SECONDS = 0.1
"""What a link's queue holds, at its rate,"""
QUEUE_PACKETS = 32
"""but no less than so many full packets."""
CROWD, PAUSE = 16, 0.0005
"""With more packets than this on their way, the router looks only every so many seconds: waking up for each
packet would cost more than carrying it."""
BATCH = 64
"""Packets read from a device before deliveries that are due go first."""

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_ICMP, _FRAGMENT = 1, 0x1FFF


@dataclass
class Counters:
    """Of one host since the start; dropped packets are those it should have sent or received."""

    sent_bytes: int = 0
    received_bytes: int = 0
    dropped: int = 0
    lost: int = 0


@dataclass
class Lane:
    """One direction of a host's link: when it has sent what it was given, and for how long it may be busy."""

    rate: float
    """Bytes a second."""
    patience: float
    """Seconds that a full queue takes."""
    free_at: float = 0.0

    def take(self, at: float, size: int) -> float | None:
        """When a packet that comes at ``at`` is through; None when the queue is full."""
        start = max(at, self.free_at)
        if start - at > self.patience:
            return None
        self.free_at = start + size / self.rate
        return self.free_at


@dataclass
class Port:
    """One host as the router sees it."""

    device: int
    mtu: int
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    nat: bool = False
    connected: bool = True
    up: Lane = field(default_factory=lambda: Lane(1.0, 1.0))
    down: Lane = field(default_factory=lambda: Lane(1.0, 1.0))
    counters: Counters = field(default_factory=Counters)
    asked: set[bytes] = field(default_factory=set)
    """Behind NAT: the flows that began inside."""
    last: dict[int, float] = field(default_factory=dict)
    """Per destination, when the latest packet is there: jitter does not reorder."""

    def set(self, values: dict[str, Any]) -> None:
        """Values as in ``network.Host``, in Mbit/s and milliseconds."""
        self.delay, self.jitter = values["delay_ms"] / 1e3, values["jitter_ms"] / 1e3
        self.loss, self.nat = values["loss"], values["nat"]
        for lane, mbit in ((self.up, values["up_mbit"]), (self.down, values["down_mbit"])):
            lane.rate = mbit * 1e6 / 8
            lane.patience = max(QUEUE_SECONDS, QUEUE_PACKETS * self.mtu / lane.rate)


Event = tuple[float, int, bool, int, bytes]
"""When, a serial number, whether the packet is through the downlink already, to whom, the packet."""


class Router:
    def __init__(self, ports: dict[int, Port]) -> None:
        self.ports = ports
        """By address, as a number."""
        self._events: list[Event] = []
        self._serial = 0
        self._chance = random.Random(0)

    def wait(self) -> float | None:
        """Seconds until something is due; in a crowd, pauses first."""
        if len(self._events) > CROWD:
            time.sleep(PAUSE)
        return max(0.0, self._events[0][0] - time.monotonic()) if self._events else None

    def read(self, address: int) -> None:
        """Takes what a host has sent."""
        port = self.ports[address]
        size = port.mtu + 64
        for _ in range(BATCH):
            try:
                packet = os.read(port.device, size)
            except BlockingIOError:
                return
            self.send(address, packet, time.monotonic())

    def send(self, source: int, packet: bytes, now: float) -> None:
        """A packet leaves a host."""
        if packet[0] >> 4 != 4 or len(packet) < 20:
            return
        port = self.ports[source]
        to = int.from_bytes(packet[16:20])
        other = self.ports.get(to)
        if other is None or not port.connected:
            return
        through = port.up.take(now, len(packet))
        if through is None:
            port.counters.dropped += 1
            return
        port.counters.sent_bytes += len(packet)
        if port.nat:
            port.asked.add(flow(packet))
        if (port.loss or other.loss) and self._chance.random() < port.loss + other.loss:
            port.counters.lost += 1
            return
        there = through + port.delay + other.delay
        if port.jitter or other.jitter:
            there += self._chance.uniform(0, port.jitter + other.jitter)
        there = max(there, port.last.get(to, 0.0))
        port.last[to] = there
        self._at(there, False, to, packet)

    def deliver(self) -> None:
        """Everything that is due."""
        events, now = self._events, time.monotonic()
        while events and events[0][0] <= now:
            at, _, through, to, packet = heapq.heappop(events)
            port = self.ports[to]
            if through:
                if port.connected:
                    port.counters.received_bytes += len(packet)
                    with suppress(OSError):  # the device is down
                        os.write(port.device, packet)
            elif port.nat and flow(packet, back=True) not in port.asked:
                port.counters.dropped += 1
            else:
                there = port.down.take(at, len(packet))
                if there is None:
                    port.counters.dropped += 1
                else:
                    self._at(there, True, to, packet)

    def _at(self, at: float, through: bool, to: int, packet: bytes) -> None:
        self._serial += 1
        heapq.heappush(self._events, (at, self._serial, through, to, packet))


def flow(packet: bytes, *, back: bool = False) -> bytes:
    """Protocol, addresses and ports as the host inside sees them: ``back`` for a packet to it. What
    has no ports is known by its addresses."""
    inside, outside = packet[12:16], packet[16:20]
    ports = b""
    if packet[9] != _ICMP and not int.from_bytes(packet[6:8]) & _FRAGMENT:
        start = (packet[0] & 15) * 4
        ports = packet[start : start + 4]
    if back:
        inside, outside, ports = outside, inside, ports[2:] + ports[:2]
    return packet[9:10] + inside + outside + ports


# Devices


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread, and what it starts, is in that network namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter(namespace)
        try:
            yield
        finally:
            ctypes.CDLL(None).setns(before, _CLONE_NEWNET)
    finally:
        os.close(before)


def enter(namespace: str) -> None:
    """From here on this thread, and what it starts, is in that network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    finally:
        os.close(there)


def open_device(namespace: str, congestion: str) -> int:
    """A TUN device in a namespace, to be read and written from here."""
    with inside(namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(device, _TUNSETIFF, request)
        for setting, value in (("ipv6/conf/all/disable_ipv6", "1"), (f"ipv4/{_CONGESTION}", congestion)):
            with suppress(OSError):  # not every kernel has both
                Path("/proc/sys/net", setting).write_text(value, "ascii")
    return device


_CONGESTION = "tcp_congestion_control"


# The process


def main() -> None:
    with suppress(OSError):  # a network does not wait for the computers' processors
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    buffer = bytearray()
    request = _requests(buffer)
    plan = next(request)
    ports = {
        _number(host["address"]): Port(open_device(host["namespace"], plan["congestion"]), plan["mtu"])
        for host in plan["hosts"]
    }
    for host in plan["hosts"]:
        ports[_number(host["address"])].set(host)
    router = Router(ports)
    _say({"ready": True})
    by_device = {port.device: address for address, port in ports.items()}
    watched: Sequence[int] = [0, *by_device]
    while True:
        ready, _, _ = select.select(watched, [], [], router.wait())
        router.deliver()
        for device in ready:
            if device:
                router.read(by_device[device])
            else:
                told = next(request, None)
                if told is None:
                    return
                _obey(router, told)


def _obey(router: Router, told: dict[str, Any]) -> None:
    if "address" in told:
        port = router.ports[_number(told["address"])]
        port.connected = told["connected"]
        port.set(told)
    spent = time.process_time()
    counters = {_text(address): vars(port.counters) for address, port in router.ports.items()}
    _say({"cpu_seconds": spent, "counters": counters})


def _requests(buffer: bytearray) -> Iterator[dict[str, Any]]:
    """Lines from standard input, each awaited when asked for."""
    while True:
        while b"\n" not in buffer:
            data = os.read(0, 65536)
            if not data:
                return
            buffer += data
        line, _, rest = bytes(buffer).partition(b"\n")
        buffer[:] = rest
        yield json.loads(line)


def _say(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address))


def _text(address: int) -> str:
    return socket.inet_ntoa(address.to_bytes(4))


if __name__ == "__main__":
    main()
