"""What a worker does about its layers before it can load them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.model.config import read_config
from core.model.stored import files_of
from core.serving.loading import read_ahead
from core.serving.orders import WorkerConfig
from core.terms import Span
from tests.core.rings import make_checkpoint


def test_files_are_asked_for_as_far_as_memory_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the span, in their order; without one that is missing, none behind it."""
    model, store = make_checkpoint(tmp_path / "model"), tmp_path / "store"
    files = files_of(store, model, read_config(model), "nf4", Span(0, 8))
    assert [path.name for path in files] == [f"h.{n}.safetensors" for n in range(6)] + ["head.safetensors"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, 1 << 20)
    asked: list[str] = []

    def advise(file: int, *_: int) -> None:
        asked.append(Path(f"/proc/self/fd/{file}").resolve().name)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    config = WorkerConfig(str(model), (2, 8), "key", str(tmp_path), quantization="nf4", store=str(store))
    read_ahead(config)
    assert asked == [path.name for path in files[1:]]
    asked.clear()
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 5 << 20}))
    read_ahead(config)
    assert len(asked) == 2
    files[1].unlink()
    asked.clear()
    read_ahead(config)
    assert not asked
    read_ahead(WorkerConfig("nowhere", (2, 8), "key", str(tmp_path), quantization="nf4", store=str(store)))
