"""The knobs of the swarm in memory."""

from __future__ import annotations

import asyncio
import time

import pytest

from core.swarm.fake import FakePeer, FakeStream, FakeSwarm
from core.swarm.peer import Stream, StreamClosed, Unreachable


async def echo(stream: Stream) -> None:
    while True:
        stream.write(await stream.read(4))


async def pair() -> tuple[FakeSwarm, FakePeer, FakePeer, FakeStream]:
    swarm = FakeSwarm()
    alice, bob = swarm.peer(), swarm.peer()
    await bob.serve("echo", echo)
    return swarm, alice, bob, await alice.dial(bob.peer_id, bob.addresses, "echo")


async def test_delay_and_rate_are_kept() -> None:
    """A round trip takes both delays and the time its bytes need, and order is kept."""
    swarm, alice, bob, stream = await pair()
    swarm.link(alice.peer_id, bob.peer_id).delay = 0.03
    swarm.link(bob.peer_id, alice.peer_id).delay = 0.02
    started = time.monotonic()
    stream.write(b"one.", b"two.")
    assert await stream.read(8) == b"one.two."
    assert 0.05 <= time.monotonic() - started < 0.2
    swarm.link(alice.peer_id, bob.peer_id).rate = 40.0
    started = time.monotonic()
    stream.write(b"1234")
    await stream.read(4)
    assert time.monotonic() - started >= 0.15
    assert swarm.link(alice.peer_id, bob.peer_id).carried_bytes == 12


async def test_a_cut_wire_breaks_streams_until_healed() -> None:
    """Cutting ends streams at both ends and dials fail; after healing, dials work."""
    swarm, alice, bob, stream = await pair()
    swarm.cut(alice.peer_id, bob.peer_id)
    with pytest.raises(StreamClosed):
        await stream.read(1)
    with pytest.raises(Unreachable):
        await alice.dial(bob.peer_id, bob.addresses, "echo")
    swarm.heal(alice.peer_id, bob.peer_id)
    again = await alice.dial(bob.peer_id, bob.addresses, "echo")
    again.write(b"back")
    assert await again.read(4) == b"back"


async def test_a_stalled_wire_says_nothing() -> None:
    """While stalled nothing arrives and nothing breaks; what was written comes after healing."""
    swarm, alice, bob, stream = await pair()
    swarm.stall(alice.peer_id, bob.peer_id)
    stream.write(b"late")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.read(4), 0.05)
    with pytest.raises(Unreachable, match="no answer"):
        await alice.dial(bob.peer_id, bob.addresses, "echo", timeout=0.05)
    assert not stream.closed
    swarm.heal(alice.peer_id, bob.peer_id)
    assert await asyncio.wait_for(stream.read(4), 1) == b"late"


async def test_a_killed_peer_is_gone() -> None:
    """Killing a peer breaks its streams, and its died() returns."""
    _, alice, bob, stream = await pair()
    bob.kill()
    await asyncio.wait_for(bob.died(), 1)
    with pytest.raises(StreamClosed):
        await stream.read(1)
    with pytest.raises(Unreachable):
        await alice.dial(bob.peer_id, bob.addresses, "echo")
