"""Measures a way through the network with ordinary sockets, from inside two hosts.

python -m benchmarks.internet.probe echo | send ADDRESS SECONDS | trips ADDRESS COUNT
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import sys
import threading
import time

from benchmarks.internet.network import Internet
from core.paths import code

PORT, DATAGRAMS = 7000, 7001
_SECOND = 1.0


async def round_trip_ms(net: Internet, here: str, there: str, count: int = 20) -> float:
    """The median time of a small datagram there and back."""
    return (await _measure(net, here, there, "trips", str(count)))[0]


async def throughput_mbit(net: Internet, here: str, there: str, seconds: float) -> tuple[float, float]:
    """Payload through one TCP connection, after its first second; and how long the whole took."""
    rate, took = await _measure(net, here, there, "send", str(seconds))
    return rate, took


async def _measure(net: Internet, here: str, there: str, what: str, argument: str) -> list[float]:
    module = (sys.executable, "-m", "benchmarks.internet.probe")
    pipe = asyncio.subprocess.PIPE
    echo = await net.start(there, *module, "echo", stdin=pipe, stdout=pipe, cwd=code())
    assert echo.stdout is not None
    await echo.stdout.readline()
    try:
        asking = await net.start(here, *module, what, net.address(there), argument, stdout=pipe, cwd=code())
        out, _ = await asking.communicate()
    finally:
        echo.kill()
        await echo.wait()
    return [float(word) for word in out.split()]


def echo() -> None:
    """Sends datagrams back, and counts what comes over a connection."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", DATAGRAMS))
    server = socket.create_server(("", PORT))
    threading.Thread(target=_swallow, args=(server,), daemon=True).start()
    print("ready", flush=True)
    while True:
        datagrams.sendto(*datagrams.recvfrom(2048))


def _swallow(server: socket.socket) -> None:
    """Answers the bytes that came after the first second and in how long, when the sender is done."""
    while True:
        connection, _ = server.accept()
        started = time.perf_counter()
        counted, since, last = 0, started, started
        while data := connection.recv(1 << 18):
            last = time.perf_counter()
            if last - started < _SECOND:
                since = last
            else:
                counted += len(data)
        connection.sendall(f"{counted} {last - since}\n".encode())
        connection.close()


def send(address: str, seconds: float) -> None:
    data = bytes(1 << 16)
    started = time.perf_counter()
    with socket.create_connection((address, PORT)) as connection:
        while time.perf_counter() - started < seconds:
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        counted, took = connection.makefile().readline().split()
    print(int(counted) * 8 / 1e6 / float(took), time.perf_counter() - started)


def trips(address: str, count: int) -> None:
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(2.0)
        for _ in range(count):
            started = time.perf_counter()
            asking.sendto(bytes(56), (address, DATAGRAMS))
            try:
                asking.recv(2048)
            except TimeoutError:
                continue
            times.append(time.perf_counter() - started)
    print(statistics.median(times) * 1e3 if times else float("inf"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["echo"]:
            echo()
        case ["send", address, seconds]:
            send(address, float(seconds))
        case ["trips", address, count]:
            trips(address, int(count))
