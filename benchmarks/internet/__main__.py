"""Measures the network itself, and prints it beside what was asked for.

python -m benchmarks.internet
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from benchmarks.internet.network import Host, Internet
from benchmarks.internet.probe import round_trip_ms, throughput_mbit


@dataclass(frozen=True)
class Wanted:
    mbit: float
    delay_ms: float
    mtu: int = 1500


CASES = (Wanted(100, 1), Wanted(100, 25), Wanted(10, 10), Wanted(1000, 1), Wanted(1000, 1, mtu=9000))


async def measure(wanted: Wanted) -> str:
    hosts = [Host(name, wanted.mbit, wanted.mbit, wanted.delay_ms) for name in ("a", "b")]
    async with Internet(hosts, mtu=wanted.mtu) as net:
        took = await round_trip_ms(net, "a", "b")
        before = await net.cpu_seconds()
        rate, seconds = await throughput_mbit(net, "a", "b", 5.0)
        busy = (await net.cpu_seconds() - before) / seconds
    return (
        f"asked {wanted.mbit:6.0f} Mbit/s, {4 * wanted.delay_ms:5.1f} ms there and back, "
        f"packets of {wanted.mtu}: "
        f"measured {rate:6.1f} Mbit/s, {took:6.2f} ms; the router used {busy:.0%} of a core"
    )


async def main() -> None:
    for wanted in CASES:
        print(await measure(wanted), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
