"""The GPUs of this PC as NVIDIA's driver reports them. A PC without the driver has the null answer.

``read_gpus`` is one reading of what there is; ``GpuWatch`` reads one GPU again and again, and tells what
others use of it from what our worker does.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import psutil

from core.terms import GpuUse

SAMPLED_SECONDS = 2.0
"""How old the driver's samples of what each process uses may be."""


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_bytes: int
    free_bytes: int
    bfloat16: bool = True
    """Whether it computes in bfloat16, as Ampere and newer do. Taken as so where the driver does not say."""


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
    name = nvml.nvmlDeviceGetName(handle)
    return Gpu(name, int(memory.total), int(memory.free), _has_bfloat16(nvml, handle))


def _has_bfloat16(nvml: Any, handle: object) -> bool:
    try:
        major, _minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except nvml.NVMLError:
        return True
    return bool(major >= 8)


def _words(error: Exception) -> str:
    text = str(error)
    return "no NVIDIA driver" if "Not Found" in text else text.lower()


class GpuWatch:
    """Reads the GPU of that number again and again. One thread uses it."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._handle: Any = None

    def read(self, ours: Collection[int]) -> GpuUse:
        """``ours`` are the process ids of our worker. Never raises."""
        import pynvml

        try:
            if self._handle is None:
                pynvml.nvmlInit()
                self._handle = pynvml.nvmlDeviceGetHandleByIndex(self._index)
            return _use(pynvml, self._handle, ours)
        except pynvml.NVMLError as error:
            self.close()  # the driver is asked anew: a GPU may come back
            return GpuUse(trouble=_words(error))

    def close(self) -> None:
        import pynvml

        if self._handle is not None:
            self._handle = None
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError:
                pass  # it was lost before


def _use(nvml: Any, handle: Any, ours: Collection[int]) -> GpuUse:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    held = _held(nvml, handle)
    percent, program = _busy(nvml, handle, ours, held)
    return GpuUse(
        percent=percent,
        program=program,
        celsius=_celsius(nvml, handle),
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        ours_bytes=sum(size for pid, size in held.items() if pid in ours),
    )


def _held(nvml: Any, handle: Any) -> dict[int, int]:
    """Bytes that each process holds; 0 where the driver does not tell, as on Windows."""
    held: dict[int, int] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in _optional(nvml, ask, handle) or ():
            held[process.pid] = max(held.get(process.pid, 0), int(process.usedGpuMemory or 0))
    return held


def _busy(nvml: Any, handle: Any, ours: Collection[int], held: dict[int, int]) -> tuple[float | None, str]:
    """How busy others keep the GPU, and who of them the most. Where the driver does not tell processes
    apart, all use is others' while ours hold nothing of it, and unknown while they do. Where it tells of no
    process at all, as inside WSL2, ours may hold something."""
    since = int((time.time() - SAMPLED_SECONDS) * 1e6)
    samples = _optional(nvml, nvml.nvmlDeviceGetProcessUtilization, handle, since)
    if samples:
        use: dict[int, float] = {}
        for sample in samples:
            use[sample.pid] = max(use.get(sample.pid, 0.0), float(sample.smUtil))
        others = {pid: percent for pid, percent in use.items() if pid not in ours and percent}
        return min(100.0, sum(others.values())), process_name(max(others, key=others.__getitem__, default=0))
    largest = max((pid for pid in held if pid not in ours), key=held.__getitem__, default=0)
    if any(pid in ours for pid in held) or (ours and not held):
        return (0.0 if samples is not None else None), ""
    rates = _optional(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    return (None if rates is None else float(rates.gpu)), process_name(largest)


def _celsius(nvml: Any, handle: Any) -> float | None:
    value = _optional(nvml, nvml.nvmlDeviceGetTemperatureV, handle, nvml.NVML_TEMPERATURE_GPU)
    if value is None:  # an older driver
        value = _optional(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    return None if value is None else float(value)


def _optional(nvml: Any, ask: Any, *arguments: Any) -> Any:
    """What a driver or a card may not tell: then ``None``. No sample of any process is an empty list."""
    try:
        return ask(*arguments)
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NOT_FOUND:
            return []
        if error.value in (
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_INSUFFICIENT_SIZE,  # more processes than a moment ago: the next look has them
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_NO_PERMISSION,
            nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        ):
            return None
        raise


def process_name(pid: int) -> str:
    """Empty where it has gone, or may not be asked."""
    if not pid:
        return ""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""
