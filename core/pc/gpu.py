"""The GPUs of this PC as NVIDIA's driver reports them. A PC without the driver has the null answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Gpus:
    """``driver`` is its version, empty without one; ``trouble`` says why nothing could be read."""

    driver: str = ""
    found: tuple[Gpu, ...] = ()
    trouble: str = ""


def read_gpus() -> Gpus:
    """One reading. Never raises: what goes wrong is said in ``trouble``."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Gpus(trouble=_words(error))
    try:
        count = pynvml.nvmlDeviceGetCount()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        return Gpus(pynvml.nvmlSystemGetDriverVersion(), tuple(_read(pynvml, handle) for handle in handles))
    except pynvml.NVMLError as error:
        return Gpus(trouble=_words(error))
    finally:
        pynvml.nvmlShutdown()


def _read(nvml: Any, handle: object) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(nvml.nvmlDeviceGetName(handle), int(memory.total), int(memory.free))


def _words(error: Exception) -> str:
    text = str(error)
    return "no NVIDIA driver" if "Not Found" in text else text.lower()
