"""How outputs leave a device, on a fake one."""

from __future__ import annotations

import torch

from core.serving.landing import CudaFlights
from tests.fake_cuda import DEVICE, fake_cuda

__all__ = ["fake_cuda"]


def test_a_copy_begins_when_all_is_computed_and_is_waited_for_alone(fake_cuda: list[str]) -> None:
    """One copy for all parts, by a stream of its own, whose source is kept meanwhile."""
    parts = [torch.arange(3, dtype=torch.uint8), torch.arange(4, dtype=torch.uint8)]
    landing = CudaFlights(DEVICE).send(parts)
    assert fake_cuda == ["copying waits for computing", "on copying", "kept"]
    landing.computed()
    assert landing.arrived().tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert fake_cuda[3:] == ["waited for computing", "waited for copying"]


def test_where_nothing_is_sent_the_device_is_waited_for(fake_cuda: list[str]) -> None:
    """Its errors show there."""
    landing = CudaFlights(DEVICE).send([])
    landing.computed()
    assert len(landing.arrived()) == 0
    assert fake_cuda == ["waited for computing"] * 2
