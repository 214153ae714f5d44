"""Caps hold at the interface, where the owner's provider counts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.caps.measure import Direction, measure


@pytest.mark.root
@pytest.mark.parametrize("direction", ["upload", "download"])
async def test_a_cap_holds_from_outside_and_answers_go_on(direction: Direction) -> None:
    """Prompts as fast as they are let stay within the cap, headers and all; an answer beside them goes on."""
    with tempfile.TemporaryDirectory(prefix="caps-") as folder:
        held = await measure(Path(folder), direction, 10, 4)
    assert held.carried < 1.1 * held.cap, held
    assert held.carried > 0.7 * held.cap, held
    assert held.under_load > 0.6 * held.alone, held
