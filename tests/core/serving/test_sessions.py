"""A donor that leaves."""

from __future__ import annotations

from core.ring.frames import Breach, Broken
from core.swarm.messages import Refuse
from tests.core.rings import FakeRing
from tests.core.serving.strangers import tail


async def test_a_donor_that_leaves_tells_its_readers(ring: FakeRing) -> None:
    """And refuses new ones."""
    stranger, _ = await tail(ring)
    await ring.donors[1].stop()
    broken = await stranger.hear()
    assert isinstance(broken, Broken)
    assert broken.breach is Breach.LEAVING
    refusal = await stranger.say(stranger.opening(epoch=2))
    assert isinstance(refusal, Refuse)
    assert refusal.kind == "leaving"
