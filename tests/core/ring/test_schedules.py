"""The ring under a network that loses, doubles, reorders and delays frames, and kills stages."""

from __future__ import annotations

import random

import pytest

from tests.core.ring.world import VOCABULARY, Chaos, World, expected

SCHEDULES = 10_000


def conversation(seed: int) -> World:
    """Two or three turns over a ring of 1 to 4 stages: some stopped, some edited, all checked."""
    rng = random.Random(seed)
    chaos = Chaos(
        lose=rng.choice((0, 0, 0.01, 0.1)),
        double=rng.choice((0, 0.05, 0.3)),
        reorder=rng.choice((0, 0, 0.02, 0.3)),
        kill=rng.choice((0, 0, 0.005, 0.03)),
    )
    world = World(rng.randint(1, 4), chaos, rng)
    world.reopen()
    context: list[int] = []
    for _ in range(rng.randint(1, 3)):
        if context and rng.random() < 0.4:
            context = context[: rng.randrange(len(context))]  # the reader edits what was said
        context = context + [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 12))]
        limit = rng.randint(1, 10)
        stop_after = rng.choice((None, None, 0, 1, 3))
        right = expected(context, world.stages, limit)
        world.prompt, world.answer = len(context), right
        world.turn(context, limit, stop_after)
        got = [token.token_id for token in world.got]
        assert got == right[: len(got)], f"schedule {seed}: wrong tokens"
        if stop_after is None:
            assert got == right, f"schedule {seed}: tokens are missing"
        context = context + got
    return world


@pytest.mark.parametrize("block", range(10))
def test_random_schedules_never_lose_double_or_change_a_token(block: int) -> None:
    """Whatever the network does, every answer is the one that a single process gives."""
    size = SCHEDULES // 10
    worlds = [conversation(seed) for seed in range(block * size, (block + 1) * size)]
    assert any(world.kills for world in worlds)
    assert any(world.accepted for world in worlds)
    assert any(world.reopened > 1 for world in worlds)
    assert any(world.reopened == 1 and world.chaos.double for world in worlds)
