"""A worker's layers, from the disk to its device, within its cap on memory. Nothing heavy is imported before
it is needed: the node asks here too."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from core.errors import ModelError
from core.model.config import read_config
from core.model.stored import files_of
from core.serving.orders import WorkerConfig
from core.terms import Span

if TYPE_CHECKING:
    from core.model.span import SpanModel

log = logging.getLogger(__name__)

CUDA_CONTEXT = 500 << 20
"""Bytes that the driver takes of a GPU for a process, at least, kernels loaded later included."""


def see_one_gpu(config: WorkerConfig) -> WorkerConfig:
    """This process sees the GPU that ``config`` names, counted as NVML counts, as its only one from now on;
    CUDA itself puts the fastest first. Then nothing, in whatever thread, can reach for another. Before CUDA
    is asked for anything."""
    if config.device == "cpu":
        return config
    number = config.device.partition(":")[2] or "0"
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if shown != [""]:  # somebody's own choice: N is the N-th of it
        if int(number) >= len(shown):
            return config
        number = shown[int(number)]
    else:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = number
    return replace(config, device="cuda:0")


def wake_device(config: WorkerConfig) -> None:
    """Has the driver set a GPU up for this process while its libraries are imported: torch goes on with the
    context that is there. Whoever uses the GPU in earnest says what is wrong with it."""
    if config.device == "cpu":
        return
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # as torch would, later
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if not driver.cuInit(0) and not driver.cuDeviceGet(ctypes.byref(device), 0):
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    phase("the driver has set the device up")


def load(config: WorkerConfig, progress: Callable[[int, int], None], span: Span) -> SpanModel:
    """The layers of ``span`` as ``config`` says. ModelError where they cannot be had or do not fit."""
    import torch

    from core.model.cuda.kept import here as kept
    from core.model.quantize import Quantization
    from core.model.span import SpanModel

    phase("torch is imported")
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.cache:
        kept.folder = Path(config.cache)
    cap_device(config)
    phase("the device is ready")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    auto = fast_dtype() if config.device == "cpu" else "bfloat16"
    try:
        model = SpanModel.load(
            Path(config.model),
            span,
            dtype=dtypes[config.dtype if config.dtype != "auto" else auto],
            device=config.device,
            quantization=Quantization(config.quantization),
            store=Path(config.store) if config.store else None,
            progress=progress,
        )
        phase("layers are loaded")
        return model
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelError("there is too little memory for this span", "Serve fewer layers.") from error


def read_ahead(config: WorkerConfig) -> None:
    """Has the system read the span's kept files while this process still imports what it needs, as far as
    half of the free memory holds them."""
    if not config.store or not hasattr(os, "posix_fadvise"):
        return
    free = psutil.virtual_memory().available // 2
    folder = Path(config.model)
    try:
        model = read_config(folder)
        for path in files_of(Path(config.store), folder, model, config.quantization, Span(*config.span)):
            with path.open("rb") as file:
                free -= os.fstat(file.fileno()).st_size
                if free < 0:
                    return
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
    except (OSError, ModelError):  # who reads them in earnest says what is wrong
        return


def phase(name: str) -> None:
    """Tells the log how long after this process's start something was reached."""
    log.debug("%.2f s after the start: %s", time.time() - _started(), name)


@cache
def _started() -> float:
    return psutil.Process().create_time()


def cap_device(config: WorkerConfig) -> None:
    """Has torch itself keep to the cap on a GPU: beyond it, a step finds no memory and is refused. What
    the driver takes for the context is part of the cap, and unknown before there is one."""
    import torch

    if config.device == "cpu" or not config.memory_cap:
        return
    if not torch.cuda.is_available():
        raise ModelError(
            f"there is no {config.device} to serve with", "Set device to auto, or install NVIDIA's driver."
        )
    torch.cuda.init()  # type: ignore[no-untyped-call]
    before = torch.cuda.mem_get_info(config.device)[0]
    torch.zeros(1, device=config.device)
    free, total = torch.cuda.mem_get_info(config.device)
    context = max(before - free, CUDA_CONTEXT)
    torch.cuda.set_per_process_memory_fraction(
        max(0.0, min(1.0, (config.memory_cap - context) / total)), config.device
    )


def log_bytes() -> int:
    """Bytes for logs of outputs where nobody said how many."""
    return min(4_000_000_000, psutil.virtual_memory().available // 4)


def fast_dtype() -> Literal["float32", "bfloat16"]:
    """bfloat16 where the CPU computes in it, else float32."""
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        if "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags:
            return "bfloat16"
    return "float32"
