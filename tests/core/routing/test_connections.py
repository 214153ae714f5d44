"""Control streams of a client, over the swarm in memory."""

from __future__ import annotations

import asyncio
import gc

import pytest

from core.routing.connections import Connections
from core.swarm.fake import FakeSwarm
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
