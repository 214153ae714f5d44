from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from core.pc.gpu import Gpu, Gpus, read_gpus


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver with one GPU."""
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda _: "RTX")
    memory = SimpleNamespace(total=8 << 30, free=6 << 30)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _: memory)


def test_no_driver_is_the_null_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a driver there is no GPU, and that is said."""

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert read_gpus() == Gpus(trouble="no NVIDIA driver")


@pytest.mark.usefixtures("driver")
def test_a_gpu_is_read() -> None:
    """A GPU is read with its name and memory."""
    assert read_gpus() == Gpus("580.1", (Gpu("RTX", 8 << 30, 6 << 30),))


@pytest.mark.usefixtures("driver")
def test_a_lost_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is lost while it is read is an answer in words, not an exception."""

    def lost(_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lost)
    assert read_gpus().found == ()
    assert "lost" in read_gpus().trouble
