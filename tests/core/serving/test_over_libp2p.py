"""What strangers may send, over real libp2p: p2pd, its streams and the hash table, on loopback.

The same is tried ten times as often over the swarm in memory (``test_incoming``, ``test_guard``); the
variable IDLEBLOOM_MUTATED says how often here.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from core.model.config import ref
from core.swarm.codec import CONTROL, pack
from core.swarm.fake import FakePeer, FakeSwarm
from core.swarm.frames import BULK, DECODE
from core.swarm.guard import band_key
from core.swarm.messages import Close
from core.swarm.p2p import HivemindPeer, start_peer
from core.swarm.peer import StreamClosed, Unreachable
from core.swarm.records import bands
from core.terms import Span
from tests.core.rings import FakeRing
from tests.core.serving.strangers import Stranger, hidden_frame, still_serves, tail
from tests.core.serving.test_incoming import mutated

MUTATED = int(os.environ.get("IDLEBLOOM_MUTATED", "1000"))
BATCH = 50


class Peers:
    """Peers of the real swarm, in the place of one in memory."""

    def __init__(self, peers: list[HivemindPeer]) -> None:
        self._peers = peers

    def peer(self) -> FakePeer:
        """The next one; the last one again and again."""
        peer = self._peers.pop(0) if len(self._peers) > 1 else self._peers[0]
        return cast(FakePeer, peer)


@pytest.fixture
async def real(folder: Path) -> AsyncIterator[FakeRing]:
    """Two donors, a reader, and one peer more for whoever else comes: the reader is the meeting point."""
    async with AsyncExitStack() as stack:
        short_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ib-")))
        peers: list[HivemindPeer] = []
        for number in range(4):
            peer = await start_peer(
                identity=short_folder / str(number),
                runtime=short_folder / "run",
                initial_peers=peers[0].addresses if peers else (),
                client_only=bool(peers),
            )
            stack.push_async_callback(peer.close)
            peers.append(peer)
        ring = FakeRing(folder, cast(FakeSwarm, Peers(peers)))
        stack.callback(ring.connections.close)
        for span in (Span(0, 3), Span(3, 8)):
            donor = await ring.add(span)
            stack.push_async_callback(donor.stop)
        yield ring


async def test_mutated_frames_and_records_change_nothing(real: FakeRing) -> None:
    """Whatever they say, their sender loses a stream at most; records sent straight to who stores them,
    under their sender's and others' names, are not taken, and what lies there stays; others are answered."""
    await _frames(real)
    await still_serves(real)
    await _records(real)
    await still_serves(real)


async def _frames(real: FakeRing) -> None:
    chance, sent = random.Random(11), 0
    while sent < MUTATED:
        stranger, lane = await tail(real)
        target = stranger.donor.peer
        for number in range(100):
            if lane.closed:
                with suppress(Unreachable):
                    lane = await stranger.peer.dial(
                        target.peer_id, target.addresses, chance.choice((BULK, DECODE, CONTROL))
                    )
            frame = hidden_frame(stranger.session, hop=chance.randrange(3))
            with suppress(StreamClosed):
                lane.write(mutated(frame, chance))
            sent += 1
            if not number % 4:
                await asyncio.sleep(0.005)  # what came is looked at, and refused
        lane.close()
        with suppress(StreamClosed):
            stranger.stream.write(pack(Close(stranger.session)))
        stranger.stream.close()
    assert not real.donors[1].lost.is_set()


async def _records(real: FakeRing) -> None:
    model, chance = ref(real.config), random.Random(13)
    before = {one.peer_id: one for one in await real.client.directory.read(model)}
    assert set(before) == {donor.peer.peer_id for donor in real.donors}
    mallory: Any = Stranger(real, 0).peer
    node, there = mallory._life.node, mallory._life.hivemind_id(real.client.peer_id)
    key_id = type(node.node_id)
    sealed = [real.client.directory.sealed(one) for one in before.values()]
    places = [band_key(model, band) for one in before.values() for band in bands(one.span)]
    for _ in range(MUTATED // BATCH):
        now = time.time()
        stored = await node.protocol.call_store(
            there,
            keys=[key_id.generate(source=chance.choice(places)) for _ in range(BATCH)],
            values=[mutated(chance.choice(sealed), chance) for _ in range(BATCH)],
            expiration_time=[now + chance.choice((1, 60, 100, 1e6)) for _ in range(BATCH)],
            subkeys=[chance.choice((*before, mallory.peer_id)) for _ in range(BATCH)],
        )
        assert stored is None or not any(stored)
    after = {one.peer_id: one for one in await real.client.directory.read(model)}
    assert set(after) == set(before)
    assert all(after[peer].span == before[peer].span for peer in before)
