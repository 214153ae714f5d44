"""What an engine takes into a batch."""

from __future__ import annotations

from pathlib import Path

from core.serving.engine import Engine
from tests.core.rings import fake_ring, make_checkpoint


async def test_short_steps_wait_for_nobody(tmp_path: Path) -> None:
    """Where a step takes less than a hand-over, a batch is not worth it; else others are waited for."""
    async with fake_ring(make_checkpoint(tmp_path), [(0, 8)]) as ring:
        engine: Engine = ring.donors[0].engine
        for at in (9.8, 9.9):
            engine._gathering.begin("ab", at)
        engine.speed.decode_step = 0.001
        assert not engine._waits(["a"], 10.0)
        engine.speed.decode_step = 0.1
        assert engine._waits(["a"], 10.0)
