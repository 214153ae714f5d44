"""The reader's side of a session."""

from __future__ import annotations

import random

from core.ring.client import Client
from core.ring.frames import (
    Frame,
)
from core.terms import Sampling
from tests.core.ring.world import Chaos, World


def test_a_follow_up_sends_only_what_the_caches_lack() -> None:
    """The common prefix stays where it is."""
    world = World(3, Chaos(), random.Random(1))
    world.client = Client(b"s" * 16)
    world.reopen()
    world.turn([1, 2, 3], 3, None)
    sends = world.client.begin([*world.client.ids, 4, 5], Sampling(), 3, frozenset())
    frames = [message for _, message in sends if isinstance(message, Frame)]
    assert sum(message.count for message in frames) == 3  # the last token drawn was never run
