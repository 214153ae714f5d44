"""Blocks in BLOOM-176B's shape with random weights, made on the GPU: plain, in 8 and in 4 bits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.gpu.scale import SCALE
from core.model.block import Block, Norm, make_block
from core.model.cache import CachePool
from core.model.config import ModelConfig
from core.model.cost import NF4_BYTES
from core.model.linear import Linear, linear
from core.model.quantize import Quantization, pack, unpack
from core.model.span import Rows, SpanModel
from core.terms import Span

HIDDEN, HEADS, BLOCKS, VOCAB = SCALE.hidden, SCALE.heads, SCALE.blocks, SCALE.vocab
NUMBERS = 12 * HIDDEN * HIDDEN
"""Of a block's matrices."""
SPREAD = (2 * HIDDEN) ** -0.5
"""Of random weights: 1 / sqrt(2 · hidden), so that what a block adds is of the size of what it is given."""
BYTES: Mapping[Quantization, float] = {
    Quantization.NONE: 2 * NUMBERS,
    Quantization.INT8: NUMBERS,
    Quantization.NF4: NF4_BYTES * NUMBERS,
}
"""What a step has to read of a block."""
SHAPES = {
    "self_attention.query_key_value": (3 * HIDDEN, HIDDEN),
    "self_attention.dense": (HIDDEN, HIDDEN),
    "mlp.dense_h_to_4h": (4 * HIDDEN, HIDDEN),
    "mlp.dense_4h_to_h": (HIDDEN, 4 * HIDDEN),
}
DTYPE = torch.bfloat16
DEVICE = torch.device(SCALE.device)


def config_of(blocks: int, vocab: int = VOCAB) -> ModelConfig:
    return ModelConfig(
        hidden=HIDDEN,
        heads=HEADS,
        blocks=blocks,
        vocab=vocab,
        epsilon=1e-5,
        residual_post_layernorm=False,
        max_length=2048,
        bos_id=1,
        eos_ids=(2,),
        model_id="random/bloom-176b-shape",
        revision="random",
    )


def random_block(config: ModelConfig, kind: Quantization, device: torch.device) -> Block:
    def norm(_name: str) -> Norm:
        weight = 1 + 0.1 * torch.randn(HIDDEN, device=device)
        return Norm(weight, 0.1 * torch.randn(HIDDEN, device=device), config.epsilon)

    def product(name: str) -> Linear:
        shape = SHAPES[name]
        weight = SPREAD * torch.randn(*shape, device=device, dtype=DTYPE)
        return quantized(weight, 0.1 * torch.randn(shape[0], device=device, dtype=DTYPE), kind)

    return make_block(config, DTYPE, norm=norm, product=product)


def quantized(weight: Tensor, bias: Tensor, kind: Quantization) -> Linear:
    if kind is Quantization.NONE:
        return linear(weight, bias)
    return unpack(pack(weight, "m", kind) | {"m.bias": bias}, "m", kind, DTYPE, weight.device)


def span_of(blocks: Mapping[int, Block], config: ModelConfig, device: torch.device) -> SpanModel:
    """A donor's model of layers 1 to the last block."""
    span = Span(1, config.blocks + 1)
    return SpanModel(config, span, DTYPE, device, embedding=None, blocks=dict(blocks), head=None)


def random_span(blocks: int, kind: Quantization, device: torch.device) -> SpanModel:
    config = config_of(blocks)
    with torch.inference_mode():
        made = {layer: random_block(config, kind, device) for layer in range(1, blocks + 1)}
    return span_of(made, config, device)


class Steps:
    """Decode steps of sessions whose caches hold random numbers."""

    def __init__(self, model: SpanModel, sessions: int, length: int) -> None:
        self.model = model
        span, device = model.span, model.device
        self.pool = CachePool(model.config, span, DTYPE, device, sessions * SCALE.length, slots=sessions)
        for layer in self.pool.layers:
            layer.normal_()
        self.slots = [self.pool.open() for _ in range(sessions)]
        for slot in self.slots:
            self.pool.reserve(slot, length)
        self.inputs = [torch.randn(1, HIDDEN, dtype=DTYPE) for _ in self.slots]
        self.start = length - 1

    def __call__(self) -> None:
        rows = [
            Rows(slot, self.model.span, self.start, x)
            for slot, x in zip(self.slots, self.inputs, strict=True)
        ]
        for out in self.model.run(rows, self.pool):
            out.cpu()

    def release(self) -> None:
        for slot in self.slots:
            self.pool.release(slot)


def wait() -> None:
    """Until the device has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def times(call: Callable[[], object], count: int = 15, warm: int = 3) -> list[float]:
    """Seconds of each of ``count`` calls, the device's work included."""
    for _ in range(warm):
        call()
    found = []
    for _ in range(count):
        wait()
        started = time.perf_counter()
        call()
        wait()
        found.append(time.perf_counter() - started)
    return found


def median_ms(call: Callable[[], object], count: int = 15) -> float:
    return 1e3 * statistics.median(times(call, count))


def bandwidth(device: torch.device) -> list[float]:
    """Bytes a second of large copies, read and written."""
    source = torch.empty(SCALE.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return [2 * source.numel() / seconds for seconds in times(lambda: target.copy_(source), 20)]


def arithmetic(device: torch.device) -> list[float]:
    """bfloat16 operations a second of a large product of random matrices."""
    one, other = (torch.randn(SCALE.side, SCALE.side, device=device, dtype=DTYPE) for _ in range(2))
    return [2 * SCALE.side**3 / seconds for seconds in times(lambda: one @ other, 20)]
