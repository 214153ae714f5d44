"""Rows of blocks in one process: parity, decode, many sessions, prefill, and others' code beside it."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.blocks import (
    BYTES,
    DTYPE,
    HEADS,
    HIDDEN,
    NUMBERS,
    SHAPES,
    SPREAD,
    Steps,
    arithmetic,
    bandwidth,
    config_of,
    median_ms,
    quantized,
    random_span,
    span_of,
    times,
)
from benchmarks.gpu.scale import SCALE
from benchmarks.measure import Bar, Interval, Row
from core.model.block import Block, Norm, make_block
from core.model.cache import CachePool
from core.model.quantize import Quantization, load_bitsandbytes
from core.model.span import Rows, SpanModel

log = logging.getLogger(__name__)

PARITY_VOCAB = SCALE.parity_vocab
PARITY_BLOCKS = SCALE.parity_blocks
POSITIONS = SCALE.positions
NAMES = {Quantization.NONE: "bfloat16", Quantization.INT8: "int8", Quantization.NF4: "NF4"}
DECODE_BLOCKS = SCALE.decode_blocks
SHORT, LONG = SCALE.lengths


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def row(name: str, what: str, unit: str, values: list[float], kind: str, **more: Any) -> Row:
    return Row(name, what, unit, Interval.of(values), 0, kind, **more)


# Parity


def reference(blocks: int, device: torch.device) -> Any:
    """transformers' BLOOM in bfloat16 with random weights, on the device."""
    from transformers import BloomConfig, BloomForCausalLM

    shape = BloomConfig(vocab_size=PARITY_VOCAB, hidden_size=HIDDEN, n_layer=blocks, n_head=HEADS)
    with torch.device("meta"):
        made: Any = BloomForCausalLM(shape)
    model = made.to(DTYPE).to_empty(device=device).eval()
    model.tie_weights()
    with torch.inference_mode():
        for name, weight in model.named_parameters():
            if name.endswith("word_embeddings_layernorm.weight"):
                weight.fill_(1.0)
            elif name.endswith("word_embeddings_layernorm.bias"):
                weight.zero_()
            elif weight.dim() == 1:
                weight.normal_(0.0, 0.1)
                if "layernorm.weight" in name or "ln_f.weight" in name:
                    weight.add_(1.0)
            else:
                weight.normal_(0.0, SPREAD)
    return model


def ours_of(theirs: Any, kind: Quantization, device: torch.device) -> dict[int, Block]:
    """Our blocks of transformers' weights."""
    config = config_of(len(theirs.transformer.h), PARITY_VOCAB)

    def block(module: Any) -> Block:
        def norm(name: str) -> Norm:
            part = module.get_submodule(name)
            return Norm(part.weight.float(), part.bias.float(), config.epsilon)

        def product(name: str) -> Any:
            part = module.get_submodule(name)
            return quantized(part.weight.detach(), part.bias.detach(), kind)

        return make_block(config, DTYPE, norm=norm, product=product)

    return {number + 1: block(module) for number, module in enumerate(theirs.transformer.h)}


def logits_by(theirs: Any, hidden: Tensor) -> Tensor:
    """transformers' logits at ``POSITIONS`` of a text whose words are ``hidden``."""
    final = theirs.transformer(inputs_embeds=hidden[None], use_cache=False).last_hidden_state[0]
    logits: Tensor = theirs.lm_head(final[list(POSITIONS)])
    return logits.float()


ONES = SCALE.length // 51
"""So many rows at the end of a text go one by one."""


def _chunks(rows: int) -> list[int]:
    return [min(SCALE.chunk, rows - start) for start in range(0, rows, SCALE.chunk)]


def parity(device: torch.device) -> Iterator[Row]:
    with torch.inference_mode():
        theirs = reference(PARITY_BLOCKS, device)
        words = torch.randn(SCALE.length, HIDDEN, device=device, dtype=DTYPE)
        whole = copy.deepcopy(theirs).float()
        wanted = logits_by(whole, words.float())
        entering = whole.transformer.word_embeddings_layernorm(words.float())
        norm, matrix = whole.transformer.ln_f, whole.lm_head.weight.detach()
        del whole.transformer.h
        free()
        found = {"transformers, bfloat16": logits_by(theirs, words)}
        config = config_of(PARITY_BLOCKS, PARITY_VOCAB)
        for kind, name in NAMES.items():
            model = span_of(ours_of(theirs, kind, device), config, device)
            for way, pieces in (
                ("in chunks", _chunks(SCALE.length)),
                ("last rows one by one", [*_chunks(SCALE.length - ONES), *[1] * ONES]),
            ):
                pool = CachePool(config, model.span, DTYPE, device, SCALE.length, slots=1)
                slot, out, start = pool.open(), [], 0
                pool.reserve(slot, SCALE.length)
                for count in pieces:
                    part = entering[start : start + count].cpu()
                    out += model.run([Rows(slot, model.span, start, part)], pool)
                    start += count
                final = norm(torch.cat([one.to(device).float() for one in out]))
                found[f"{name}, {way}"] = F.linear(final[list(POSITIONS)], matrix)
                del pool
            del model
            free()
    scale = (wanted - wanted.mean(-1, keepdim=True)).square().mean(-1).sqrt()
    errors = {
        name: ((logits - wanted).square().mean(-1).sqrt() / scale).tolist() for name, logits in found.items()
    }
    base = errors["transformers, bfloat16"]
    for name, error in errors.items():
        beside = {f"position {at}, %": 100 * one for at, one in zip(POSITIONS, error, strict=True)}
        beside["same best token, of 3"] = float((found[name].argmax(-1) == wanted.argmax(-1)).sum())
        ours = name.startswith("bfloat16")
        worst = max(one / other for one, other in zip(error, base, strict=True))
        yield row(
            f"parity-{name.replace(', ', '-').replace(' ', '-')}",
            f"{name}: error of {PARITY_BLOCKS} blocks' logits, relative to their spread in float32",
            "× transformers' bfloat16 error, worst position",
            [worst],
            name.partition(",")[0],
            bar=Bar(1.0, at_least=False) if ours else None,
            beside=beside,
        )
    del theirs, matrix, norm, whole
    free()


# Decode


def decode(device: torch.device, speed: float) -> Iterator[Row]:
    for kind, name in NAMES.items():
        model = random_span(DECODE_BLOCKS, kind, device)
        bound = BYTES[kind] / speed
        bare = {} if kind is Quantization.NONE else {"bitsandbytes' bare products, ms": bare_ms(kind, device)}
        rates: dict[tuple[int, int], list[float]] = {}
        for sessions, length in product((1, 8, 32), SCALE.lengths):
            steps = Steps(model, sessions, length)
            rates[sessions, length] = times(steps, SCALE.samples, 4)
            del steps
            model.forget_recordings()
            free()
        for length in SCALE.lengths:
            each = [seconds / DECODE_BLOCKS for seconds in rates[1, length]]
            reached = [bound / seconds for seconds in each]
            median = 1e3 * Interval.of(each).median
            beside = {"a block, ms": median, "bound, ms": 1e3 * bound, **bare}
            yield row(
                f"decode-{name}-{length}",
                f"decode, one session, cache of {length}: part of the bound by memory bandwidth",
                "",
                reached,
                name,
                bar=Bar(0.7) if kind is Quantization.NONE else None,
                beside=beside,
            )
            if bare:
                yield row(
                    f"bare-{name}-{length}",
                    f"decode, cache of {length}: whole blocks against bitsandbytes' bare products",
                    "×",
                    [next(iter(bare.values())) / 1e3 / seconds for seconds in each],
                    name,
                    bar=Bar(0.9) if kind is Quantization.NF4 else None,
                )
        for sessions, limit in ((8, 6), (32, 15)):
            for length in SCALE.lengths:
                one = Interval.of(rates[1, length]).median
                yield row(
                    f"sessions-{name}-{sessions}-{length}",
                    f"{sessions} sessions, cache of {length}: tokens/s against one session",
                    "×",
                    [sessions * one / seconds for seconds in rates[sessions, length]],
                    name,
                    bar=Bar(limit) if kind is Quantization.NONE and length == SHORT else None,
                    beside={"a block, ms": 1e3 * Interval.of(rates[sessions, length]).median / DECODE_BLOCKS},
                )
        yield from prefill(name, model, device)
        del model
        free()


def bare_ms(kind: Quantization, device: torch.device) -> float:
    """A block's four products for one row by bitsandbytes alone, nothing between them."""
    with torch.inference_mode():
        return sum(median_ms(_bare_product(kind, shape, device), SCALE.samples) for shape in SHAPES.values())


def _bare_product(kind: Quantization, shape: tuple[int, int], device: torch.device) -> Callable[[], object]:
    bnb = load_bitsandbytes()
    weight = SPREAD * torch.randn(*shape, device=device, dtype=DTYPE)
    x = torch.randn(1, shape[1], device=device, dtype=DTYPE)
    if kind is Quantization.NF4:
        packed, quantized_to = bnb.functional.quantize_4bit(
            weight, compress_statistics=True, quant_type="nf4"
        )
        return lambda: bnb.matmul_4bit(x, packed.t(), quant_state=quantized_to)
    state = bnb.MatmulLtState()
    state.threshold, state.has_fp16_weights = 6.0, False
    state.CB, state.SCB, _ = bnb.functional.int8_vectorwise_quant(weight.half())
    return lambda: bnb.matmul(x, state.CB, state=state)


def prefill(name: str, model: SpanModel, device: torch.device) -> Iterator[Row]:
    for count, start in SCALE.prefill:
        pool = CachePool(model.config, model.span, DTYPE, device, SCALE.length, slots=1)
        for layer in pool.layers:
            layer.normal_()
        slot = pool.open()
        pool.reserve(slot, SCALE.length)
        rows = Rows(slot, model.span, start, torch.randn(count, HIDDEN, dtype=DTYPE))
        found = times(partial(_run_chunk, model, rows, pool), 7, 2)
        seconds = [one / DECODE_BLOCKS for one in found]
        yield row(
            f"prefill-{name}-{count}-{start}",
            f"prefill, {count} rows from position {start}: part of the bound by the matrix units",
            "",
            [2 * NUMBERS * count / PEAK[0] / one for one in seconds],
            name,
            beside={
                "tokens/s through a block": count / Interval.of(seconds).median,
                "a block, ms": 1e3 * Interval.of(seconds).median,
            },
        )
        del pool
        free()


def _run_chunk(model: SpanModel, rows: Rows, pool: CachePool) -> None:
    model.run([rows], pool)[0].cpu()


PEAK = [0.0]
"""Measured operations a second."""


# Others' code


def beside(device: torch.device, speed: float) -> Iterator[Row]:
    from transformers import DynamicCache

    with torch.inference_mode():
        theirs = reference(DECODE_BLOCKS, device)
        for length in (SHORT, LONG - 48):
            cache = DynamicCache()
            words = torch.randn(1, length, HIDDEN, device=device, dtype=DTYPE)
            theirs.transformer(inputs_embeds=words, past_key_values=cache, use_cache=True)

            step = partial(
                theirs.transformer, inputs_embeds=words[:, :1], past_key_values=cache, use_cache=True
            )
            seconds = [one / DECODE_BLOCKS for one in times(step, 15, 3)]
            yield row(
                f"transformers-{length}",
                f"transformers' own blocks, one session, cache of {length} and on: part of the same bound",
                "",
                [BYTES[Quantization.NONE] / speed / one for one in seconds],
                "bfloat16",
                beside={"a block, ms": 1e3 * Interval.of(seconds).median},
            )
            del cache, words, step
        del theirs
        free()


def offloaded(device: torch.device) -> Iterator[Row]:
    try:
        from accelerate import cpu_offload  # type: ignore[import-not-found]
    except ImportError:
        return
    blocks = 2
    theirs = reference(blocks, device).to("cpu")
    free()
    cpu_offload(theirs.transformer, execution_device=device)
    words = torch.randn(1, 1, HIDDEN, device=device, dtype=DTYPE)
    found = times(partial(theirs.transformer, inputs_embeds=words, use_cache=False), 5, 1)
    yield row(
        "offloading",
        "accelerate's offloading to system memory, one token through a block",
        "ms",
        [1e3 * one / blocks for one in found],
        "bfloat16",
        beside={"GB/s over the bus": BYTES[Quantization.NONE] * blocks / Interval.of(found).median / 1e9},
    )
    del theirs
    free()


def machine(device: torch.device) -> Iterator[Row]:
    """What all else is compared with."""
    copies, sums = bandwidth(device), arithmetic(device)
    free()
    yield row(
        "bandwidth", "memory bandwidth, large copies, read and written", "GB/s", [c / 1e9 for c in copies], ""
    )
    yield row(
        "arithmetic",
        f"product of {SCALE.side:,}² random matrices",
        "TFLOP/s",
        [s / 1e12 for s in sums],
        "bfloat16",
    )


def speeds(device: torch.device) -> tuple[float, float]:
    """Bytes and operations a second."""
    found = Interval.of(bandwidth(device)).median, Interval.of(arithmetic(device)).median
    free()
    return found


def decode_rows(device: torch.device) -> Iterator[Row]:
    yield from machine(device)
    speed, PEAK[0] = speeds(device)
    yield from decode(device, speed)


def beside_rows(device: torch.device) -> Iterator[Row]:
    yield from beside(device, speeds(device)[0])
