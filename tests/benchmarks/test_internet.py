"""The network in user space does to packets what its hosts' links say."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import AsyncIterator

import psutil
import pytest

from benchmarks.internet.network import Host, Internet, sweep
from benchmarks.internet.probe import round_trip_ms, throughput_mbit
from benchmarks.internet.router import Lane, flow
from core.paths import code

ROUTER = "behind"


@pytest.fixture
async def net() -> AsyncIterator[Internet]:
    hosts = [Host("a", 20, 20, 10), Host("b", 20, 20, 10), Host(ROUTER, 20, 20, 10, nat=True)]
    async with Internet(hosts) as made:
        yield made


@pytest.mark.root
async def test_delay_and_rate_are_what_was_asked_for(net: Internet) -> None:
    """A round trip takes four of the hosts' delays, and a connection fills the link without its headers."""
    assert 40 <= await round_trip_ms(net, "a", "b") < 60
    rate, _ = await throughput_mbit(net, "a", "b", 2.5)
    assert 14 < rate < 20
    counters = await net.counters()
    assert counters["b"].received_bytes > rate * 1.4e6 / 8
    assert counters[ROUTER].received_bytes == 0


@pytest.mark.root
async def test_links_change_while_packets_travel(net: Internet) -> None:
    """A host that is cut off hears nothing, and hears again when it is back, later if its link is slower."""
    await net.link_down("b")
    assert await _lost(net, "a", "b")
    await net.link_up("b")
    await net.set("b", delay_ms=40)
    assert 100 <= await round_trip_ms(net, "a", "b") < 130


@pytest.mark.root
async def test_nobody_reaches_behind_nat_uninvited(net: Internet) -> None:
    """Who dials out hears answers, and nobody else is let in."""
    assert await _lost(net, "a", ROUTER)
    assert 40 <= await round_trip_ms(net, ROUTER, "a") < 60


@pytest.mark.root
def test_a_killed_run_leaves_nothing_for_long() -> None:
    """The next network removes the last one's namespaces and ends what ran in them."""
    script = (
        "import asyncio\nfrom benchmarks.internet.network import Host, Internet\n"
        "async def main():\n"
        "    async with Internet([Host('a', 1, 1, 1)]) as net:\n"
        "        await net.start('a', 'sleep', '600')\n"
        "        print(net.namespace('a'), flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=code(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        space = process.stdout.readline().decode().strip()
        process.kill()
    left = psutil.Process(int(subprocess.check_output(["ip", "netns", "pids", space]).split()[0]))
    sweep()
    assert space not in subprocess.check_output(["ip", "netns", "list"], text=True)
    assert psutil.wait_procs([left], timeout=5)[1] == []


def test_a_link_sends_one_packet_after_the_other() -> None:
    """Packets queue for as long as the queue is patient; then they are dropped."""
    lane = Lane(rate=1000, patience=2.5)
    assert [lane.take(0.0, 1000) for _ in range(4)] == [1.0, 2.0, 3.0, None]
    assert lane.take(10.0, 500) == 10.5


def test_a_flow_is_the_same_both_ways() -> None:
    """An answer's addresses and ports are the question's, turned around; another port is another flow."""

    def packet(source: int, to: int, ports: bytes) -> bytes:
        header = bytearray(20)
        header[0], header[9] = 0x45, 17
        header[12:16], header[16:20] = source.to_bytes(4), to.to_bytes(4)
        return bytes(header) + ports

    asked = flow(packet(1, 2, b"\x00\x05\x00\x06"))
    assert flow(packet(2, 1, b"\x00\x06\x00\x05"), back=True) == asked
    assert flow(packet(2, 1, b"\x00\x07\x00\x05"), back=True) != asked


async def _lost(net: Internet, here: str, there: str) -> bool:
    return math.isinf(await round_trip_ms(net, here, there, count=1))
