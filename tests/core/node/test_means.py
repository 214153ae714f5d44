"""What the settings about this PC's device, memory and disk mean for what is served."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest

from core.model.config import ModelConfig
from core.node.placing import cpu_budget, fitting, gpu_budget, log_budget, means
from core.node.storage import Storage
from core.paths import Paths
from core.pc.gpu import Gpu, read_gpus
from core.serving.fit import longest
from core.settings import Quantize, Settings
from core.terms import Span
from tests.fake_gpu import FakeGpu

GB = 10**9
CARD = Gpu("NVIDIA GeForce RTX 3060", 12 * GB, 11 * GB)
BIG = ModelConfig(4096, 32, 30, 250_880, 1e-5, False, 2048, 1, (2,), "bigscience/bloomz-7b1", "main")


def test_leave_vram_gb() -> None:
    """What is left to the owner is not served with; automatic is 2 GB or a quarter, whichever is more."""
    assert gpu_budget(Settings(leave_vram_gb=10.0), 24 * GB, 23 * GB) == 14 * GB
    assert gpu_budget(Settings(), 24 * GB, 23 * GB) == 18 * GB
    assert gpu_budget(Settings(), 6 * GB, 6 * GB) == 4 * GB
    assert gpu_budget(Settings(leave_vram_gb=0.0), 24 * GB, 5 * GB) == 5 * GB


def test_leaving_more_serves_less() -> None:
    """The span shrinks with what is left to the owner."""
    spans = []
    for leave in (0.0, 4.0):
        chosen = Settings(leave_vram_gb=leave)
        able = fitting(BIG, means(chosen, [CARD], "float32"), gpu_budget(chosen, 8 * GB, 8 * GB))
        spans.append(longest(able.ends()))
    assert spans[0] > spans[1] > 0


def test_ram_gb() -> None:
    """System memory is held to it: all of serving on the CPU, the logs beside a GPU."""
    assert cpu_budget(Settings(ram_gb=2.0), 10 * GB) == 2 * GB
    assert cpu_budget(Settings(), 10 * GB) > 7 * GB
    on_gpu = means(Settings(), [CARD], "float32")
    assert log_budget(Settings(ram_gb=0.5), on_gpu, 9 * GB, 10 * GB) == GB // 2


@pytest.mark.parametrize(("chosen", "device"), [("auto", "cuda:0"), ("cpu", "cpu"), ("cuda:1", "cuda:1")])
def test_device(chosen: str, device: str) -> None:
    """The one that was chosen, or found by the program."""
    assert means(Settings(device=chosen), [CARD, CARD], "float32").device == device


@pytest.mark.parametrize(
    ("chosen", "held"), [(Quantize.AUTO, "nf4"), (Quantize.INT8, "int8"), (Quantize.NONE, "none")]
)
def test_quantization(chosen: Quantize, held: str) -> None:
    """How layers are kept, and with that how many fit."""
    assert means(Settings(quantization=chosen), [CARD], "float32").quantization == held


def test_disk_gb_and_data_dir(tmp_path: Path) -> None:
    """Layers are kept in the folder that was chosen, up to the size that was."""
    storage = Storage.of(Settings(disk_gb=7, data_dir=str(tmp_path)), Paths.of(tmp_path / "home"))
    assert storage.root == tmp_path and storage.room() <= 7 * GB
    assert Storage.of(Settings(), Paths.of(tmp_path / "home")).root == tmp_path / "home" / "cache"


def test_an_old_gpu_computes_in_float32() -> None:
    """Cards before Ampere have no bfloat16; the one that is served with counts."""
    old = Gpu("NVIDIA GeForce RTX 2080 Ti", 11 * GB, 10 * GB, bfloat16=False)
    assert means(Settings(), [CARD], "float32").dtype == "bfloat16"
    assert means(Settings(), [old], "bfloat16").dtype == "float32"
    assert means(Settings(device="cuda:1"), [CARD, old], "bfloat16").dtype == "float32"
    assert means(Settings(device="cpu"), [old], "bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize("used", [0, 4 << 30, 9 << 30], ids=["idle", "in use", "nearly full"])
def test_what_is_planned_stays_within_what_the_driver_leaves(
    fake_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, used: int
) -> None:
    """As the driver counts it: layers, the cache of 16 sessions and more, a step's workspace and the context,
    whichever layers are chosen; neither the owner's part nor what others hold is touched."""
    fake_gpu.load()
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setenv("FAKE_NVML_STATE", str(fake_gpu.state))
    fake_gpu.set(total=12 << 30, base=used)
    (card,) = read_gpus().found
    assert card.free_bytes == (12 << 30) - used
    settings = Settings(leave_vram_gb=3.0)
    budget = gpu_budget(settings, card.memory_bytes, card.free_bytes)
    assert budget <= min(12 * 2**30 - 3 * GB, card.free_bytes)
    able = fitting(BIG, means(settings, [card], "float32"), budget)
    spans = [Span(start, end) for start, end in enumerate(able.ends()) if end > start]
    assert spans
    for span in spans:
        fit = able.fit(span)
        assert fit.memory <= budget and fit.cache_tokens >= 16 * 128
