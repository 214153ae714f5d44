"""Our own CUDA kernels (``kernels.cu``), compiled by NVRTC, which comes with torch, for the device at hand.

Nothing here needs a CUDA toolkit or a compiler on the PC. Launching goes through the driver, so launches
are recorded by CUDA graphs as torch's own are.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import sysconfig
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from core.errors import ModelError
from core.model.cache import PAGE
from core.model.cuda.kept import here as kept
from core.model.cuda.kept import name_of

log = logging.getLogger(__name__)

Grid = tuple[int, int, int]

DIMS = (32, 64, 80, 96, 128)
"""Sizes of heads that BLOOMs have and attention is compiled for."""
NUMBERS = {torch.bfloat16: "BFloat16", torch.float32: "Float32"}
FEW_ROWS_SPLIT, MANY_ROWS_SPLIT = 4, 32
"""Pages of keys that one block of threads attends: few where few rows must fill the device."""
MANY_ROWS = 8


PROBE = ("write_rows<Float32>",)


class CompileError(ModelError):
    """NVRTC is missing, or cannot compile for this device."""


class Kernel:
    def __init__(self, function: ctypes.c_void_p) -> None:
        self._function = function

    def __call__(self, grid: Grid, threads: int, *args: Tensor | float | None) -> None:
        """Launches on torch's current stream. Tensors go as pointers, None as a null pointer."""
        values: list[ctypes._SimpleCData[object]] = [_argument(arg) for arg in args]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        _check(_driver().cuLaunchKernel(self._function, *grid, threads, 1, 1, 0, stream, pointers, None))


def _argument(arg: Tensor | float | None) -> ctypes._SimpleCData[object]:
    if isinstance(arg, int):
        return ctypes.c_int(arg)
    if isinstance(arg, float):
        return ctypes.c_float(arg)  # type: ignore[return-value]
    return ctypes.c_void_p(None if arg is None else arg.data_ptr())  # type: ignore[return-value]


class Kernels:
    """The kernels of one device, compiled as they are first asked for, ``names`` at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        properties = torch.cuda.get_device_properties(device)
        self.processors: int = properties.multi_processor_count
        self.capability: tuple[int, int] = (properties.major, properties.minor)
        self._found: dict[str, Kernel] = {}
        self._lock = threading.Lock()

    def compile(self, names: Sequence[str]) -> None:
        """Compiles those of ``names`` that are not yet; together they take less time. Raises CompileError."""
        with self._lock:
            missing = [name for name in dict.fromkeys(names) if name not in self._found]
            if missing:
                code, lowered = _code(missing, self.capability)
                module = ctypes.c_void_p()
                with torch.cuda.device(self.device):
                    torch.cuda.mem_get_info(self.device)  # else a thread that begins here has no context
                    _check(_driver().cuModuleLoadData(ctypes.byref(module), code))
                for name, symbol in zip(missing, lowered, strict=True):
                    function = ctypes.c_void_p()
                    _check(_driver().cuModuleGetFunction(ctypes.byref(function), module, symbol))
                    self._found[name] = Kernel(function)

    def __getitem__(self, name: str) -> Kernel:
        found = self._found.get(name)
        if found is None:
            self.compile([name])
            found = self._found[name]
        return found

    def attends(self, dtype: torch.dtype, dim: int) -> bool:
        """Whether ``write`` and ``attend`` are there for heads of this size."""
        return dim in DIMS and (dtype is torch.float32 or (dtype is torch.bfloat16 and self.multiplies))

    @property
    def multiplies(self) -> bool:
        """Whether there are kernels for products here: bfloat16 on matrix units came with Ampere."""
        return self.capability >= (8, 0)

    # Attention

    def write(self, qkv: Tensor, pages: Tensor, rows: Tensor) -> None:
        """New keys and values of ``qkv`` [count, heads, 3, dim] into ``pages`` [pages, 2, heads, PAGE,
        dim]; ``rows`` [count, width] int32: a position, -1 for none, then its session's pages."""
        count, heads, _, dim = qkv.shape
        spread = max(1, min(8, 2 * self.processors // count))
        self[f"write_rows<{NUMBERS[qkv.dtype]}>"](
            (count, spread, 1), 256, qkv, pages, rows, rows.shape[1], heads, dim
        )

    def attend(self, qkv: Tensor, pages: Tensor, rows: Tensor, slopes: Tensor) -> Tensor:
        """Each row's attention over its session's keys up to its own; → [count, heads · dim], zeros for
        padding."""
        count, heads, _, dim = qkv.shape
        width = rows.shape[1]
        split = MANY_ROWS_SPLIT if count >= MANY_ROWS else FEW_ROWS_SPLIT
        splits = -(-(width - 1) // split)
        partial = torch.empty(count, heads, splits, dim + 2, dtype=torch.float32, device=qkv.device)
        out = torch.empty(count, heads * dim, dtype=qkv.dtype, device=qkv.device)
        kind = f"<{NUMBERS[qkv.dtype]}, {dim}>"
        self[f"attend_rows{kind}"](
            (heads, splits, count), 128, qkv, pages, rows, slopes, partial, width, heads, split, dim**-0.5
        )
        self[f"merge_rows{kind}"]((heads, count, 1), dim, partial, out, rows, width, heads, splits, split)
        return out

    def normalise(self, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """Layer normalisation of float32 rows of up to 16,384 numbers, rounded to bfloat16."""
        out = torch.empty(x.shape, dtype=torch.bfloat16, device=x.device)
        self["normalise"]((x.shape[0], 1, 1), 512, x, weight, bias, out, x.shape[1], epsilon)
        return out


@cache
def kernels_of(device: torch.device) -> Kernels | None:
    """The kernels of a CUDA device, one set a process; None where there is no NVRTC or a GPU older than
    Volta: what torch has does there."""
    try:
        kit = Kernels(device)
        kit.compile(PROBE)  # whether it compiles at all
    except (CompileError, AssertionError) as error:
        log.warning("%s; slower ways are used", error)
        return None
    return kit


def attention_names(dtype: torch.dtype, dim: int) -> tuple[str, ...]:
    """What ``Kernels.write`` and ``attend`` use."""
    number = NUMBERS[dtype]
    return f"write_rows<{number}>", f"attend_rows<{number}, {dim}>", f"merge_rows<{number}, {dim}>"


def _code(names: Sequence[str], capability: tuple[int, int]) -> tuple[bytes, list[bytes]]:
    """As ``_compile``, from an earlier start where one compiled the same."""
    name = name_of("kernels", source_hash(), PAGE, capability, sorted(names), torch.version.cuda)
    if (known := kept.read(name)) is not None:
        head, _, code = known.partition(b"\n")
        symbols: dict[str, str] = json.loads(head)
        return code, [symbols[one].encode() for one in names]
    code, lowered = _compile(names, capability)
    symbols = {one: symbol.decode() for one, symbol in zip(names, lowered, strict=True)}
    kept.write(name, json.dumps(symbols).encode() + b"\n" + code)
    return code, lowered


def _source() -> bytes:
    return Path(__file__).with_name("kernels.cu").read_bytes()


def source_hash() -> str:
    return hashlib.sha256(_source()).hexdigest()


def _compile(names: Sequence[str], capability: tuple[int, int]) -> tuple[bytes, list[bytes]]:
    """``names`` of kernels.cu as machine code, and their symbols in it."""
    source = _source()
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    _check_nvrtc(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None))
    for name in names:
        _check_nvrtc(nvrtc.nvrtcAddNameExpression(program, name.encode()))
    major, minor = capability
    options = [f"--gpu-architecture=sm_{major}{minor}".encode(), b"--std=c++17", f"-DPAGE={PAGE}".encode()]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    if failed:
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, text)
        raise CompileError(
            f"the GPU's kernels cannot be compiled: {text.value.decode(errors='replace')[:500]}"
        )
    size = ctypes.c_size_t()
    _check_nvrtc(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
    code = ctypes.create_string_buffer(size.value)
    _check_nvrtc(nvrtc.nvrtcGetCUBIN(program, code))
    symbols = []
    for name in names:
        symbol = ctypes.c_char_p()
        _check_nvrtc(nvrtc.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(symbol)))
        symbols.append(bytes(symbol.value or b""))
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw, symbols


@cache
def _nvrtc() -> ctypes.CDLL:
    major = (torch.version.cuda or "0").partition(".")[0]
    name = f"libnvrtc.so.{major}"
    installed = Path(sysconfig.get_paths()["purelib"], "nvidia")
    for place in (name, *(str(path) for path in installed.glob(f"*/lib/{name}"))):
        try:
            return ctypes.CDLL(place)
        except OSError:
            continue
    raise CompileError(f"{name} is missing", "Install torch with CUDA again.")


@cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise CompileError("the NVIDIA driver's libcuda.so.1 is missing") from None


def _check(result: int) -> None:
    """RuntimeError, as torch raises for the device's errors."""
    if result:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(result, ctypes.byref(text))
        raise RuntimeError(f"CUDA error: {(text.value or b'unknown').decode()}")


def _check_nvrtc(result: int) -> None:
    if result:
        raise CompileError(f"NVRTC failed with error {result}")
