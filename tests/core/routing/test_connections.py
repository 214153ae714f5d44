"""Control streams of a client, over the swarm in memory."""

from __future__ import annotations

import asyncio
import gc

import pytest

from core.routing.connections import Connections
from core.swarm.codec import CONTROL, pack, receive
from core.swarm.fake import FakeSwarm
from core.swarm.messages import Heard, Lease
from core.swarm.peer import Stream, Unreachable
from core.terms import PeerId


async def test_a_dial_that_nobody_waits_for_fails_silently(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked has gone; the event loop would else complain of a failure that nobody took."""
    peer, dialled = FakeSwarm().peer(), asyncio.Event()

    async def late(remote: PeerId, *_: object) -> Stream:
        await dialled.wait()
        raise Unreachable(remote, "nobody answers at its addresses")

    monkeypatch.setattr(peer, "dial", late)
    asking = asyncio.create_task(Connections(peer).to(PeerId("gone"), ()))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait({asking})
    del asking  # its frame holds the dial, which complains when it goes
    dialled.set()
    await asyncio.sleep(0.01)
    gc.collect()
    assert caplog.text == ""


async def answering(stream: Stream) -> None:
    """A donor that hears every lease."""
    while True:
        message = await receive(stream)
        if isinstance(message, Lease):
            stream.write(pack(Heard(message.number)))


async def test_a_connection_that_owes_an_answer_for_long_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an outage TCP would try again ever more seldom; who used it is told that it broke."""
    monkeypatch.setattr("core.routing.connections.LEASE_SECONDS", 0.01)
    monkeypatch.setattr("core.routing.connections.STALE_SECONDS", 0.05)
    swarm = FakeSwarm()
    ours, theirs = swarm.peer(), swarm.peer()
    lost: list[str] = []

    await theirs.serve(CONTROL, answering)
    lines = Connections(ours)
    first = await lines.to(theirs.peer_id, theirs.addresses)
    first.sessions[b"s" * 16] = (lambda *_: None, lambda _, why: lost.append(why))
    assert await lines.to(theirs.peer_id, theirs.addresses) is first
    swarm.strand(ours.peer_id, theirs.peer_id)
    async with asyncio.timeout(5):
        while (again := await lines.to(theirs.peer_id, theirs.addresses)) is first:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while not again.measured:  # noqa: ASYNC110 - what streams carry comes without a call
            await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    assert lost == ["its connection broke"]
    lines.close()
