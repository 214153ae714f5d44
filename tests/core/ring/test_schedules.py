"""The ring under a network that loses, doubles, reorders and delays frames, and kills stages."""

from __future__ import annotations

import multiprocessing
import os
import random
from concurrent.futures import ProcessPoolExecutor

from tests.core.ring.world import VOCABULARY, Chaos, World, expected

SCHEDULES = int(os.environ.get("RING_SCHEDULES", "10000"))
BLOCKS, CORES = 10, 2


def conversation(seed: int) -> World:
    """Two or three turns over a ring of 1 to 4 stages: some stopped, some edited, all checked."""
    rng = random.Random(seed)
    chaos = Chaos(
        lose=rng.choice((0, 0, 0.01, 0.1)),
        double=rng.choice((0, 0.05, 0.3)),
        reorder=rng.choice((0, 0, 0.02, 0.3)),
        kill=rng.choice((0, 0, 0.005, 0.03)),
    )
    world = World(rng.randint(1, 4), chaos, rng, moving=rng.choice((0, 0, 0.03)))
    world.reopen()
    context = talk(world, [], rng.randint(1, 3), seed)
    if rng.random() < 0.2 and len(context) > 1:  # another conversation begins as this one did
        shared = rng.randrange(1, min(len(context), world.client.cached + 1) + 1) - 1
        other = World(world.stages, chaos, rng, now=world.now, source=world, shared=shared)
        other.client.adopt(context[:shared])
        other.reopen()
        talk(other, context[:shared], 1, seed)
        other.kills, other.reopened = world.kills, max(world.reopened, other.reopened)
        other.accepted, other.changes, other.filled = world.accepted, world.changes, world.filled
        return other
    return world


def talk(world: World, context: list[int], turns: int, seed: int) -> list[int]:
    """The conversation so far after so many more turns."""
    rng = world.random
    for _ in range(turns):
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
    return context


def seen(seeds: range) -> set[str]:
    """What happened in these schedules."""
    happened: set[str] = set()
    for seed in seeds:
        world = conversation(seed)
        once = "once" if world.reopened == 1 and world.chaos.double else ""
        again = "again" if world.reopened > 1 else ""
        kinds = {"kills": world.kills, "adopted": world.adopted, "changes": world.changes}
        kinds |= {"filled": world.filled}
        kinds |= {"accepted": world.accepted, once: 1, again: 1}
        happened |= {kind for kind, count in kinds.items() if count}
    return happened


def test_random_schedules_never_lose_double_or_change_a_token() -> None:
    """Whatever the network does, every answer is the one that a single process gives."""
    size = SCHEDULES // BLOCKS
    blocks = [range(block * size, (block + 1) * size) for block in range(BLOCKS)]
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        happened = list(pool.map(seen, blocks))
    assert set.intersection(*happened) >= {
        "kills",
        "adopted",
        "changes",
        "filled",
        "accepted",
        "once",
        "again",
    }
