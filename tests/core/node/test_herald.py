"""What others are told of layers that a worker of this PC will serve."""

from __future__ import annotations

import asyncio

from core.model.config import read_config, ref
from core.node.herald import Herald
from core.paths import bundled_model
from core.swarm.fake import FakePeer, FakeSwarm
from core.swarm.identity import Identity
from core.terms import DonorState, ModelRef, Record, Span

MODEL: ModelRef = ref(read_config(bundled_model()))


async def record_of(peer: FakePeer, identity: Identity) -> Record:
    async with asyncio.timeout(5):
        while True:
            for record in await peer.directory.read(MODEL):
                if record.peer_id == identity.peer_id:
                    return record
            await asyncio.sleep(0.005)


async def test_a_worker_that_is_to_come_is_announced_and_withdrawn() -> None:
    """In its own name, by the node: where it will be, when, and what it could hold."""
    swarm, worker = FakeSwarm(), Identity.make()
    node = swarm.peer()
    herald = Herald(node.directory, worker, MODEL)
    herald.tell(Span(2, 5), 60.0, room=10**9, quantization="nf4", device="cuda:0", wire="bfloat16")
    found = await record_of(node, worker)
    assert (found.state, found.span, found.room) == (DonorState.JOINING, Span(2, 5), 10**9)
    assert 59 < found.expected_online < 61
    await herald.withdraw()
    assert (await record_of(node, worker)).state is DonorState.LEAVING


async def test_the_worker_then_speaks_for_itself() -> None:
    """Nothing is taken back."""
    swarm, worker = FakeSwarm(), Identity.make()
    node = swarm.peer()
    herald = Herald(node.directory, worker, MODEL)
    herald.tell(Span(2, 5), 60.0, room=1, quantization="none", device="cpu", wire="float32")
    await record_of(node, worker)
    await herald.end()
    await herald.withdraw()
    assert (await record_of(node, worker)).state is DonorState.JOINING
