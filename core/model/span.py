"""A span of a BLOOM: the layers that one donor holds, and running ragged batches through them.

Layer 0 is the word embeddings with their norm, layers 1 .. N are the blocks, layer N + 1 is the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import FrameError
from core.model.attention import Alibi, Attention
from core.model.batch import Rows, Segment, plan, segments
from core.model.block import Block, Norm, load_block, load_norm
from core.model.cache import CachePool
from core.model.config import ModelConfig, read_config
from core.model.cuda.graphs import MOST, Recordings
from core.model.cuda.kept import here as kept
from core.model.cuda.kernels import Kernels, kernels_of
from core.model.cuda.products import FewBitsLinear, Format, begin_compiling
from core.model.cuda.switch import described, device_seconds, tune
from core.model.linear import Output, output_matrix
from core.model.paged import plan_pages
from core.model.quantize import Quantization, Quantized, begin_loading, of_head
from core.model.store import store_of
from core.model.stored import layer_name
from core.model.weights import Checkpoint, blocks_of, check_span, span_tensors
from core.terms import Span

__all__ = ["Embedding", "Head", "Quantization", "Rows", "SpanModel"]

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and in all."""


@dataclass(frozen=True)
class Embedding:
    """Layer 0. ``words`` [vocab, hidden] stays mapped from the file: only the rows asked for are read."""

    words: Tensor
    norm: Norm

    def __call__(self, ids: Tensor) -> Tensor:
        """``ids`` [rows] int64 → [rows, hidden] float32 on the norm's device."""
        rows = F.embedding(ids.to(self.words.device), self.words)
        return self.norm(rows.to(self.norm.weight.device, torch.float32))


@dataclass(frozen=True)
class Head:
    """Layer N + 1: the last norm and the output matrix [vocab, hidden]."""

    norm: Norm
    matrix: Output

    def __call__(self, hidden: Tensor) -> Tensor:
        """``hidden`` [rows, hidden] float32 → logits [rows, vocab] float32."""
        return self.matrix(self.norm(hidden))


class SpanModel:
    """The loaded layers of ``span``. Made by ``SpanModel.load``."""

    def __init__(
        self,
        config: ModelConfig,
        span: Span,
        dtype: torch.dtype,
        device: torch.device,
        *,
        embedding: Embedding | None,
        blocks: dict[int, Block],
        head: Head | None,
        quantization: Quantization = Quantization.NONE,
    ) -> None:
        self.quantization = quantization
        self.config, self.span, self.dtype, self.device = config, span, dtype, device
        self.embedding, self.blocks, self.head = embedding, blocks, head
        self._alibi = Alibi(config.heads, config.max_length, device)
        self._kit = _kernels(device, dtype, config.head_dim)
        self._recordings: Recordings | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        span: Span,
        *,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        quantization: Quantization = Quantization.NONE,
        store: Path | None = None,
        progress: Progress | None = None,
    ) -> SpanModel:
        """Read the tensors of ``span`` from the checkpoint in ``folder``, and no others.

        With a ``quantization`` the layers are quantized one by one, kept below ``store`` where one is
        given, and read from there next time, when the checkpoint need not have them any more.

        Raises ModelError, before anything is loaded, for a span outside the model and for files or
        tensors that are missing, damaged or of the wrong shape.
        """
        config = read_config(folder)
        check_span(config, span)
        checkpoint, place = Checkpoint(folder), torch.device(device)
        if place.type == "cuda":
            if quantization is not Quantization.NONE:
                begin_loading()
            begin_compiling(place, dtype, config.head_dim, _formats(quantization, config, span))
        quantized = None
        if quantization is not Quantization.NONE:
            kept = store_of(store, folder, config, quantization) if store else None
            quantized = Quantized(checkpoint, config, quantization, dtype=dtype, device=place, store=kept)
        with torch.inference_mode():
            loader = _Loader(checkpoint, config, span, dtype, place, quantized=quantized, progress=progress)
            return loader.load()

    def resized(self, span: Span, load: Callable[[Span], SpanModel]) -> SpanModel:
        """This model with the layers of ``span``: those that it holds are kept, ``load`` brings the rest.
        What runs goes on running on this one; ``span`` has to overlap its span."""
        pieces = [
            load(Span(start, end))
            for start, end in (
                (span.start, min(span.end, self.span.start)),
                (max(span.start, self.span.end), span.end),
            )
            if start < end
        ]
        holders = [self, *pieces]
        blocks = {layer: block for one in holders for layer, block in one.blocks.items() if layer in span}
        return SpanModel(
            self.config,
            span,
            self.dtype,
            self.device,
            embedding=next((one.embedding for one in holders if one.embedding and 0 in span), None),
            blocks=blocks,
            head=next((one.head for one in holders if one.head and self.config.layers - 1 in span), None),
            quantization=self.quantization,
        )

    def _run_blocks(
        self, layers: range, members: Sequence[Rows], inputs: Sequence[Tensor], pool: CachePool
    ) -> Tensor:
        recordings = self._recorded(pool) if self.device.type == "cuda" else None
        if recordings is not None and recordings.suits(members):
            return recordings.run(layers, members, inputs)
        out = _join(inputs, self.device)
        how: Attention
        if pool.paged:
            how = plan_pages(members, self._alibi, self.device, self._kit)
        else:
            how = plan(members, self._alibi, self.device)
        for layer in layers:
            out = self.blocks[layer](out, pool.layers[layer - pool.first_block], how)
        return out

    def _recorded(self, pool: CachePool) -> Recordings | None:
        """The recordings of this model's blocks over ``pool``; None where its products cannot be recorded."""
        if self._kit is None or not all(block.recordable for block in self.blocks.values()):
            return None
        if self._recordings is None or self._recordings.pool is not pool:
            blocks = {layer: block.__call__ for layer, block in self.blocks.items()}
            most = min((one.few for one in self._switching()), default=MOST)
            self._recordings = Recordings(blocks, pool, self._alibi, self._kit, self.config.hidden, most=most)
        return self._recordings

    def _switching(self) -> list[FewBitsLinear]:
        products = [one for block in self.blocks.values() for one in block.linears]
        return [one for one in products if isinstance(one, FewBitsLinear)]

    def forget_recordings(self) -> None:
        """Let go of what was recorded over a pool, and of the pool."""
        self._recordings = None

    @torch.inference_mode()
    def prepare(self, pool: CachePool) -> None:
        """Find out which products are faster here, and record all steps of this model over ``pool`` now
        rather than when they are first run: that takes memory, which a donor wants to know before it lends
        the rest."""
        if self.device.type != "cuda":
            return
        with suppress(torch.OutOfMemoryError):  # long prompts will find none either, and are refused
            tune(self._switching(), described(self.device), kept, device_seconds(self.device))
        if recordings := self._recorded(pool):
            recordings.record()

    def check(self, rows: Rows) -> None:
        """FrameError unless ``rows`` fit this span and their slot."""
        shape = (rows.count,) if rows.layers.start == 0 else (rows.count, self.config.hidden)
        last = self.config.layers
        if rows.layers not in self.span:
            raise FrameError(f"layers {rows.layers} are not within the held span {self.span}")
        if rows.count < 1 or tuple(rows.input.shape) != shape:
            raise FrameError(f"input of shape {list(rows.input.shape)} does not fit layers {rows.layers}")
        if not 0 <= rows.start <= rows.end <= min(rows.slot.reserved, self.config.max_length):
            raise FrameError(f"positions {rows.start} to {rows.end - 1} are not reserved")
        if (rows.logits and rows.layers.end != last) or not 0 <= rows.logits <= rows.count:
            raise FrameError(
                f"logits of {rows.logits} rows asked for, of {rows.count} that reach {rows.layers}"
            )
        if rows.layers.start == 0:
            self._check_ids(rows.input)
        elif not rows.input.is_floating_point():
            raise FrameError(f"hidden states of dtype {rows.input.dtype}")

    def _check_ids(self, ids: Tensor) -> None:
        if ids.dtype != torch.int64:
            raise FrameError(f"token ids of dtype {ids.dtype}")
        low, high = (int(edge) for edge in ids.aminmax())
        if low < 0 or high >= self.config.vocab:
            raise FrameError(f"token ids {low} to {high} are not all below {self.config.vocab}")

    @torch.inference_mode()
    def run(self, batch: Sequence[Rows], pool: CachePool) -> list[Tensor]:
        """Run all rows through their layers, those that share layers together.

        For each ``Rows``: hidden [n, hidden] in the compute dtype where its layers end before the
        head, else logits [logits, vocab] float32. Positions may be overwritten freely: what was
        cached from ``start`` on is replaced. Raises FrameError before anything is run.
        """
        for rows in batch:
            self.check(rows)
        if len({rows.slot.index for rows in batch}) != len(batch):
            raise FrameError("two steps of one session in one batch")
        states = [rows.input for rows in batch]
        for segment in segments(batch, self.config.layers - 1):
            self._run_segment(segment, batch, states, pool)
        return [
            state if rows.layers.end == self.config.layers else state.to(self.dtype)
            for rows, state in zip(batch, states, strict=True)
        ]

    def _run_segment(
        self, segment: Segment, batch: Sequence[Rows], states: list[Tensor], pool: CachePool
    ) -> None:
        """Replace the ``states`` of the segment's members by what its layers make of them."""
        members = [batch[i] for i in segment.members]
        inputs = [states[i] for i in segment.members]
        counts = [rows.count for rows in members]
        if segment.layers.start == 0:
            assert self.embedding is not None
            out = self.embedding(torch.cat(inputs))
        elif segment.layers.end == self.config.layers:
            assert self.head is not None
            counts = [rows.logits for rows in members]
            kept = [state[state.shape[0] - n :] for state, n in zip(inputs, counts, strict=True)]
            hidden = _join(kept, self.device)
            out = self.head(hidden) if len(hidden) else hidden.new_empty(0, self.config.vocab)
        else:
            out = self._run_blocks(range(segment.layers.start, segment.layers.end), members, inputs, pool)
        for i, part in zip(segment.members, torch.split(out, counts), strict=True):
            states[i] = part


def _formats(quantization: Quantization, config: ModelConfig, span: Span) -> list[Format]:
    """Of the matrices that ``span`` holds."""
    of = {Quantization.INT8: Format.INT8, Quantization.NF4: Format.NF4}
    kinds = [quantization] * bool(blocks_of(config, span))
    kinds += [of_head(quantization)] * (config.layers - 1 in span)
    return [of[kind] for kind in dict.fromkeys(kinds) if kind in of]


def _kernels(device: torch.device, dtype: torch.dtype, dim: int) -> Kernels | None:
    """The kernels for attention on ``device``, if it has any."""
    kit = kernels_of(device) if device.type == "cuda" else None
    return kit if kit is not None and kit.attends(dtype, dim) else None


def _join(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """A new float32 tensor of all rows: blocks write into it."""
    # Widened where it is used: half as many bytes go over the bus as if the host did it.
    return torch.cat([part.to(device) for part in parts]).to(torch.float32)


class _Loader:
    """Loads one span, telling how far it is."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: ModelConfig,
        span: Span,
        dtype: torch.dtype,
        device: torch.device,
        *,
        quantized: Quantized | None,
        progress: Progress | None,
    ) -> None:
        self.checkpoint, self.config, self.span = checkpoint, config, span
        self.dtype, self.device, self.quantized = dtype, device, quantized
        self._report = progress or (lambda done, total: None)
        self._tied = not checkpoint.has("lm_head.weight")
        self._sizes = {layer: self._size(layer) for layer in range(span.start, span.end)}
        self._total = sum(self._sizes.values())
        self._done = 0

    def load(self) -> SpanModel:
        self._report(0, self._total)
        embedding = self._embedding() if 0 in self.span else None
        blocks: dict[int, Block] = {}
        for number in blocks_of(self.config, self.span):
            blocks[number + 1] = self._block(number)
            self._done += self._sizes[number + 1]
            self._report(self._done, self._total)
        head = self._head() if self.config.layers - 1 in self.span else None
        self._report(self._total, self._total)
        return SpanModel(
            self.config,
            self.span,
            self.dtype,
            self.device,
            embedding=embedding,
            blocks=blocks,
            head=head,
            quantization=self.quantized.kind if self.quantized else Quantization.NONE,
        )

    def _size(self, layer: int) -> int:
        """Bytes of a layer on disk: as it was quantized before, else in the checkpoint, which is checked."""
        if self.quantized and (stored := self.quantized.stored(layer_name(self.config, layer))):
            return stored
        return self.checkpoint.check(span_tensors(self.config, Span(layer, layer + 1), tied=self._tied))

    def _block(self, number: int) -> Block:
        if self.quantized:
            return self.quantized.block(number)
        return load_block(self.checkpoint, self.config, number, self.dtype, self.device)

    def _embedding(self) -> Embedding:
        norm = load_norm(self.checkpoint, "word_embeddings_layernorm", self.config, self.device)
        return Embedding(self.checkpoint.tensor("word_embeddings.weight"), norm)

    def _head(self) -> Head:
        name = "word_embeddings.weight" if self._tied else "lm_head.weight"
        if self.quantized:
            return Head(*self.quantized.head(name))
        matrix = self.checkpoint.tensor(name).to(self.device, self.dtype, copy=True)
        norm = load_norm(self.checkpoint, "ln_f", self.config, self.device)
        return Head(norm, output_matrix(matrix))
