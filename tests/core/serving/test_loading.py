"""What a worker does about its layers before it can load them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.model.config import read_config
from core.model.stored import files_of
from core.serving.loading import read_ahead, see_one_gpu, wake_device
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


@pytest.mark.parametrize(
    ("device", "shown", "found"),
    [
        ("cpu", None, ("cpu", None, None)),
        ("cuda:0", None, ("cuda:0", "0", "PCI_BUS_ID")),
        ("cuda:1", None, ("cuda:0", "1", "PCI_BUS_ID")),
        ("cuda:1", "2,GPU-af", ("cuda:0", "GPU-af", None)),
        ("cuda:1", "3", ("cuda:1", "3", None)),
    ],
)
def test_a_worker_sees_its_gpu_alone(
    device: str,
    shown: str | None,
    found: tuple[str, str | None, str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that NVML, by which settings and memory go, has at that number, if the owner hides none."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    config = see_one_gpu(WorkerConfig("model", (2, 8), "key", str(tmp_path), device=device))
    set_now = (os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER"))
    assert (config.device, *set_now) == found


def test_a_gpu_is_set_up_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the driver, as far as there is one and it works; for the CPU nobody asks it."""
    asked: list[str] = []

    class Driver:
        def __init__(self, failing: str = "") -> None:
            self.failing = failing

        def __getattr__(self, name: str) -> Callable[..., int]:
            return lambda *_given: asked.append(name) or int(name == self.failing)

    def missing(name: str) -> Driver:
        raise OSError(name)

    config = WorkerConfig("model", (2, 8), "key", str(tmp_path), device="cuda:0")
    monkeypatch.setenv("CUDA_MODULE_LOADING", "LAZY")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    wake_device(config)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver("cuInit"))
    wake_device(config)
    assert asked == ["cuInit"]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    wake_device(config)
    assert asked[1:] == ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"]
    wake_device(replace(config, device="cpu"))
    assert len(asked) == 4
