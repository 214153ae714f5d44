from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pynvml
import pytest

from core.pc.gpu import Gpu, Gpus, GpuWatch, read_gpus
from tests.fake_gpu import LOST, FakeGpu


@pytest.fixture
def gpu(fake_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """In this process: pynvml finds the library by its name, once it has been loaded."""
    fake_gpu.load()
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    # Through the C library: os.environ reaches getenv, since Python puts what is set there.
    monkeypatch.setenv("FAKE_NVML_STATE", str(fake_gpu.state))
    return fake_gpu


@pytest.fixture
def game() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's process."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=-1
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_no_driver_is_the_null_answer(gpu: FakeGpu) -> None:
    """Without a driver there is no GPU, and that is said."""
    gpu.state.unlink()
    assert read_gpus() == Gpus(trouble="driver not loaded")


def test_no_library_is_the_null_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is there one where nothing of NVIDIA's is installed."""

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert read_gpus() == Gpus(trouble="no NVIDIA driver")
    assert GpuWatch(0).read(()).trouble == "no NVIDIA driver"


def test_a_gpu_is_read(gpu: FakeGpu) -> None:
    """A GPU is read with its name and memory."""
    card = gpu.card
    assert read_gpus() == Gpus(card.driver, (Gpu(card.name, card.total, card.total - card.base),))


def test_a_lost_gpu_is_said_and_may_return(gpu: FakeGpu) -> None:
    """A GPU that is lost is an answer in words, and one that is back is read again."""
    watch = GpuWatch(0)
    assert not watch.read(()).trouble
    gpu.set(error=LOST)
    assert "lost" in read_gpus().trouble and read_gpus().found == ()
    assert "lost" in watch.read(()).trouble
    gpu.set(error=0)
    assert watch.read(()).celsius == 45
    watch.close()


def test_others_use_is_told_from_ours(gpu: FakeGpu, game: subprocess.Popen[bytes]) -> None:
    """Both processes work; only the other's work counts, and it is named. Our memory is what we hold."""
    gpu.set(processes=((os.getpid(), 90), (game.pid, 30)))
    watch = GpuWatch(0)
    seen = watch.read({os.getpid()})
    assert (seen.percent, seen.program) == (30.0, psutil.Process(game.pid).name())
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    assert seen.ours_bytes == pytest.approx(resident, rel=0.1)
    assert seen.total_bytes - seen.free_bytes > gpu.card.base + seen.ours_bytes
    assert watch.read(()).percent == 100.0
    watch.close()


def test_memory_of_a_dead_process_is_free(gpu: FakeGpu, game: subprocess.Popen[bytes]) -> None:
    """It falls when the process has gone, and not before."""
    gpu.set(processes=((game.pid, 0),))
    watch = GpuWatch(0)
    used = gpu.card.total - watch.read(()).free_bytes
    assert used > gpu.card.base
    game.kill()
    game.wait()
    assert gpu.card.total - watch.read(()).free_bytes == gpu.card.base
    watch.close()


def test_a_driver_that_tells_only_the_whole_use(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is others' while our worker is away; with it there, others' is unknown, also where the driver
    tells of no process at all, as inside WSL2."""

    def unsupported(*_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetProcessUtilization", unsupported)
    gpu.set(utilisation=40)
    watch = GpuWatch(0)
    assert watch.read(()).percent == 40.0
    assert watch.read({os.getpid()}).percent is None
    gpu.set(processes=((os.getpid(), 90),))
    assert watch.read({os.getpid()}).percent is None
    watch.close()
