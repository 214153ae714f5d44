"""What an engine takes into a batch."""

from __future__ import annotations

from pathlib import Path

from core.serving.engine import DECODING_SECONDS, Engine
from tests.core.rings import fake_ring, make_checkpoint


async def test_an_entry_that_shares_a_pc_with_the_rest_gathers_its_readers(tmp_path: Path) -> None:
    """It waits for all that decode, for one step at most; elsewhere nobody waits."""
    async with fake_ring(make_checkpoint(tmp_path), [(0, 8)]) as ring:
        engine: Engine = ring.donors[0].engine
        engine.speed.decode_step = 0.1
        assert not engine._gathers(["a", "b"], 10.0)
        engine._gathers_now = lambda: True
        assert not engine._gathers(["a", "b"], 10.0), "all that are known are there"
        assert engine._gathers(["a"], 10.05), "b is on its way"
        assert engine._gathers(["a"], 10.1)
        assert not engine._gathers(["a"], 10.16), "one step is long enough"
        assert engine._gathers(["a"], 10.2)
        assert not engine._gathers(["a", "b"], 10.21), "and b has come"
        late = 10.3 + DECODING_SECONDS
        assert not engine._gathers(["a"], late), "b decodes no more"


async def test_short_steps_wait_for_nobody(tmp_path: Path) -> None:
    """Where a step takes less than a hand-over, a batch is not worth it."""
    async with fake_ring(make_checkpoint(tmp_path), [(0, 8)]) as ring:
        engine = ring.donors[0].engine
        engine._gathers_now = lambda: True
        engine.speed.decode_step = 0.001
        engine._gathers(["a", "b"], 10.0)
        assert not engine._gathers(["a"], 10.0)
