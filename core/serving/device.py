"""What a device's errors mean: a step found no memory, or the device is lost to this process."""

from __future__ import annotations

import ctypes
import logging
import sys
from contextlib import suppress

import torch

log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, the CPU's allocator included, had nothing left to give."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in text or "out of memory" in text)


def is_lost(device: torch.device, error: BaseException) -> bool:
    """Whether the device answers no more after ``error``: when a kernel has written astray, all that the
    process asks of its device fails, and only a new process helps. Other errors leave it as it was."""
    if device.type != "cuda":  # nothing to ask: the error alone tells
        return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        log.exception("the device failed")
        return True
    return False


def first_line(error: BaseException) -> str:
    """An error's own words: torch's go on for lines about how to debug it."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def free_unused() -> None:
    """Hand back what allocators keep for later."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with suppress(RuntimeError):  # a lost device fails at this too, and is found out by what follows
            torch.cuda.empty_cache()
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
