"""What our code asks of torch.cuda, on the CPU: streams and events that keep a log, and memory that is not
page-locked. For code that would else meet its first line on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

DEVICE = torch.device("cuda", 0)


class FakeEvent:
    def __init__(self, log: list[str], name: str) -> None:
        self._log, self.name = log, name

    def synchronize(self) -> None:
        self._log.append(f"waited for {self.name}")


class FakeStream:
    def __init__(self, log: list[str], name: str) -> None:
        self._log, self.name = log, name

    def record_event(self) -> FakeEvent:
        return FakeEvent(self._log, self.name)

    def wait_event(self, event: FakeEvent) -> None:
        self._log.append(f"{self.name} waits for {event.name}")

    def synchronize(self) -> None:
        self._log.append(f"waited for {self.name}")


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The log. Tensors for ``DEVICE`` are made on the CPU."""
    log: list[str] = []
    empty = torch.empty

    def made(*shape: Any, device: Any = None, pin_memory: bool = False, **more: Any) -> torch.Tensor:
        return empty(*shape, **more)

    @contextmanager
    def stream(which: FakeStream) -> Iterator[None]:
        log.append(f"on {which.name}")
        yield

    monkeypatch.setattr(torch, "empty", made)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream(log, "copying"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream(log, "computing"))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, which: log.append("kept"))
    return log
