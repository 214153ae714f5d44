"""Who may open a session."""

from __future__ import annotations

from typing import Any

import pytest

from core.swarm.messages import Refuse
from core.terms import Span
from tests.core.rings import FakeRing
from tests.core.serving.strangers import Stranger, tail


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"revision": "another"}, "model"),
        ({"span": Span(2, 8)}, "span"),
        ({"span": Span(3, 7)}, "span"),
        ({"stage": 3}, "span"),
        ({"max_length": 5000}, "bad"),
        ({"following": b"no record"}, "bad"),
    ],
    ids=["model", "outside", "half", "stage", "length", "record"],
)
async def test_an_opening_that_does_not_fit_is_refused_with_a_reason(
    ring: FakeRing, changes: dict[str, Any], kind: str
) -> None:
    """And nothing is held for it."""
    stranger = Stranger(ring, 1)
    await stranger.dial()
    refusal = await stranger.say(stranger.opening(**changes))
    assert isinstance(refusal, Refuse)
    assert refusal.kind == kind
    assert len(ring.donors[1].sessions) == 0


async def test_a_session_is_its_first_clients(ring: FakeRing) -> None:
    """Another client cannot open it again."""
    stranger, _ = await tail(ring)
    thief = Stranger(ring, 1)
    thief.session = stranger.session
    await thief.dial()
    refusal = await thief.say(thief.opening(epoch=9))
    assert isinstance(refusal, Refuse)
    assert refusal.kind == "bad"
