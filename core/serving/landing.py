"""How outputs come from the device to the host while the device goes on with the next batch.

What a batch computed is copied by a stream of its own into page-locked memory, which the copy engine fills
without the processors of the GPU. So a batch has two ends: the device is free when its last kernel has
run, its bytes are here when the copy has ended, and between the two the next batch has begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Landing(Protocol):
    """Bytes on their way."""

    def computed(self) -> None:
        """Returns when the device has done the batch's work. RuntimeError where it has failed."""

    def arrived(self) -> Tensor:
        """The bytes on the host, once all are there. RuntimeError where the device has failed."""


class Flights(Protocol):
    def send(self, parts: Sequence[Tensor]) -> Landing:
        """``parts``, uint8 on the device, set off for the host, one behind the other. What was given to the
        device before is waited for, where there are none too."""


class CudaFlights:
    """One copying stream a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, parts: Sequence[Tensor]) -> CudaLanding:
        computing = torch.cuda.current_stream(self._device)
        joined = _joined(parts)
        computed = computing.record_event()
        if joined is None:
            return CudaLanding(computed, computed, torch.empty(0, dtype=torch.uint8))
        host = torch.empty(len(joined), dtype=torch.uint8, pin_memory=True)  # torch keeps what it once locked
        self._stream.wait_event(computed)
        with torch.cuda.stream(self._stream):
            host.copy_(joined, non_blocking=True)
        joined.record_stream(self._stream)  # else its memory could serve the next batch too soon
        return CudaLanding(computed, self._stream.record_event(), host)


class CudaLanding:
    def __init__(self, computed: torch.cuda.Event, landed: torch.cuda.Event, host: Tensor) -> None:
        self._computed, self._landed, self._host = computed, landed, host

    def computed(self) -> None:
        self._computed.synchronize()

    def arrived(self) -> Tensor:
        self._landed.synchronize()
        return self._host


class Here:
    """What was computed on the host is there."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._joined = _joined(parts)

    def computed(self) -> None:
        pass

    def arrived(self) -> Tensor:
        return torch.empty(0, dtype=torch.uint8) if self._joined is None else self._joined


def _joined(parts: Sequence[Tensor]) -> Tensor | None:
    """One tensor, so that one copy brings all."""
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
