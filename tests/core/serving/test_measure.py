"""What a donor measures before it announces itself."""

from __future__ import annotations

import pytest

from core.serving import measure as module


@pytest.mark.parametrize(("takes", "steps"), [(0.001, 5), (0.2, 2), (2.0, 1)])
def test_slow_layers_are_measured_in_fewer_steps(takes: float, steps: int) -> None:
    """So that a slow PC is not kept from serving by measuring itself."""
    taken = []

    def take() -> float:
        taken.append(takes)
        return takes

    assert module._median(5, take) == takes
    assert len(taken) == steps
