"""What each layer of a model costs a donor: memory, disk, cache and seconds a token. Pure: no tensors.

Counted from the shapes of a block's tensors (``core/model/weights.py``): 12·h² numbers in matrices, 9·h in
biases, 4·h in norms, for a hidden size h. The ends are not like blocks: the word embeddings are read row by
row from the mapped file, and the head multiplies by a matrix of the whole vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from core.errors import ModelError
from core.model.config import ModelConfig
from core.terms import Span


class Numbers(StrEnum):
    """How the numbers of a matrix are held."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"
    NF4 = "nf4"


_PLAIN = {Numbers.FLOAT32: 4, Numbers.BFLOAT16: 2, Numbers.FLOAT16: 2}
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""A number of bitsandbytes' NF4 with double quantization: 4 bits, a byte of scale for 64 numbers, and a
float32 of that scale's scale for 256 of them."""
BYTES_A_SECOND = 8e9
"""Assumed speed at which a step reads weights, where nothing was measured: one core of a home PC."""


@dataclass(frozen=True)
class Form:
    """How a donor holds its layers. ``dtype`` is what it computes in and what its cache holds; ``blocks``
    and ``head`` are how matrices are kept; ``stored`` are bytes a number in the checkpoint's files, which
    hold the ends' matrix once if it is ``tied``."""

    dtype: Numbers = Numbers.BFLOAT16
    blocks: Numbers = Numbers.BFLOAT16
    head: Numbers = Numbers.BFLOAT16
    stored: int = 2
    tied: bool = True

    def __post_init__(self) -> None:
        if self.dtype not in _PLAIN:
            raise ModelError(f"nothing computes in {self.dtype}", "Use float32, bfloat16 or float16.")


@dataclass(frozen=True)
class LayerCost:
    """One layer's bytes and seconds. ``memory`` is what its weights take on the device, ``loading`` what
    they take beyond that while they are read and converted, ``disk`` what must be fetched,
    ``cache`` a position of a session, ``seconds`` a token's decode step of one session."""

    memory: int
    loading: int
    disk: int
    cache: int
    seconds: float
    shared: int = 0
    """Of ``disk``: what the model's other end needs too, where the matrix is tied."""


Costs = tuple[LayerCost, ...]
"""The cost of layers 0 .. N + 1, in order."""


def costs(config: ModelConfig, form: Form, *, bytes_a_second: float = BYTES_A_SECOND) -> Costs:
    """The table of a model whose layers are held in ``form``. ``bytes_a_second`` is the speed at which
    this device was measured to read weights in a step of one row: that is what a step's time goes to."""
    if bytes_a_second <= 0:
        raise ModelError(f"a device that reads {bytes_a_second:g} bytes a second serves nothing")
    block = _block(config, form, bytes_a_second)
    return (
        _embedding(config, form, bytes_a_second),
        *[block] * config.blocks,
        _head(config, form, bytes_a_second),
    )


def disk_of(table: Costs, span: Span) -> int:
    """Bytes to fetch for ``span``: a matrix shared by the two ends lies on the disk once."""
    both = table[0].shared if len(span) == len(table) else 0
    return sum(cost.disk for cost in table[span.start : span.end]) - both


def memory_of(table: Costs, span: Span, cache_tokens: int = 0) -> int:
    """Bytes that ``span`` takes once loaded, with a cache of that many positions."""
    return sum(cost.memory + cost.cache * cache_tokens for cost in table[span.start : span.end])


def peak_of(table: Costs, span: Span, cache_tokens: int = 0, workspace: int = 0) -> int:
    """The most bytes that ``span`` ever takes: while its last layer is read there is no cache yet, and
    while it serves nothing is read."""
    loading = max(cost.loading for cost in table[span.start : span.end])
    cache = sum(cost.cache for cost in table[span.start : span.end]) * cache_tokens
    return memory_of(table, span) + max(loading, cache + workspace)


def rate_of(table: Costs, span: Span) -> float:
    """Tokens a second through the whole span, one after the other."""
    return 1 / sum(cost.seconds for cost in table[span.start : span.end])


def measured(table: Costs, span: Span, step_seconds: float) -> Costs:
    """The table with its seconds scaled to what a step through ``span`` was measured to take."""
    if step_seconds <= 0:
        return table
    scale = step_seconds * rate_of(table, span)
    return tuple(replace(cost, seconds=cost.seconds * scale) for cost in table)


def _block(config: ModelConfig, form: Form, speed: float) -> LayerCost:
    hidden = config.hidden
    shapes = ((3 * hidden, hidden), (hidden, hidden), (4 * hidden, hidden), (hidden, 4 * hidden))
    numbers = 12 * hidden * hidden
    biases, norms = 9 * hidden, 4 * hidden
    memory = sum(_matrix(*shape, form.blocks) for shape in shapes) + biases * _PLAIN[form.dtype] + norms * 4
    # Matrix by matrix: the largest is there in full while its repacked or quantized form is made.
    loading = 4 * hidden * hidden * _PLAIN[form.dtype]
    return LayerCost(
        memory=memory,
        loading=loading,
        disk=(numbers + biases + norms) * form.stored,
        cache=2 * hidden * _PLAIN[form.dtype],
        seconds=memory / speed,
    )


def _embedding(config: ModelConfig, form: Form, speed: float) -> LayerCost:
    norm = 2 * config.hidden
    return LayerCost(
        memory=norm * 4,
        loading=0,
        disk=(config.vocab * config.hidden + norm) * form.stored,
        cache=0,
        seconds=(config.hidden * form.stored + norm * 4) / speed,
        shared=config.vocab * config.hidden * form.stored * form.tied,
    )


def _head(config: ModelConfig, form: Form, speed: float) -> LayerCost:
    numbers, norm = config.vocab * config.hidden, 2 * config.hidden
    memory = _matrix(config.vocab, config.hidden, form.head) + norm * 4
    # Quantized some rows at a time; else repacked from a whole copy, and a 16-bit one goes through float32.
    copies = 0 if form.head not in _PLAIN else _PLAIN[form.dtype] + 4 * (form.head is not Numbers.FLOAT32)
    return LayerCost(
        memory=memory,
        loading=numbers * copies or 4 * config.hidden * config.hidden * _PLAIN[form.dtype],
        disk=(numbers + norm) * form.stored,
        cache=0,
        seconds=memory / speed,
        shared=numbers * form.stored * form.tied,
    )


def _matrix(rows: int, columns: int, kind: Numbers) -> int:
    """Bytes of a matrix. LLM.int8 keeps a float32 scale a row."""
    if kind is Numbers.NF4:
        return math.ceil(rows * columns * NF4_BYTES)
    if kind is Numbers.INT8:
        return rows * columns + 4 * rows
    return rows * columns * _PLAIN[kind]
