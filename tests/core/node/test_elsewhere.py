"""The swarm's other models, as one peer of an in-memory swarm reads them."""

from __future__ import annotations

import time

from core.node.elsewhere import MOST, MOST_LAYERS, Elsewhere
from core.swarm.fake import FakeSwarm
from core.terms import DonorState, ModelRef, Record, Span

OWN = ModelRef("own", "main", 10)


async def test_other_models_are_read_now_and_then() -> None:
    """Not the own one, none of absurd size, no more than a few, and not at every look."""
    swarm, now = FakeSwarm(), [0.0]
    models = [OWN, ModelRef("huge", "main", MOST_LAYERS + 1)]
    models += [ModelRef(f"other {number:02}", "main", 10) for number in range(MOST + 3)]
    for model in models:
        await announce(swarm, model)
    elsewhere = Elsewhere(swarm.peer().directory, OWN, lambda: now[0])
    found = await elsewhere.models()
    assert [model.model_id for model in found] == [f"other {number:02}" for number in range(MOST)]
    assert all(len(records) == 1 for records in found.values())
    await announce(swarm, ModelRef("another", "main", 10))
    assert await elsewhere.models() is found
    now[0] = 60.0
    assert "another" in {model.model_id for model in await elsewhere.models()}


async def announce(swarm: FakeSwarm, model: ModelRef) -> None:
    peer, now = swarm.peer(), time.time()
    await peer.directory.announce(Record(peer.peer_id, model, Span(0, 5), DonorState.ONLINE, now, now + 90))
