"""Times core/model alone: one thread, no network, beside transformers in the same run.

    python -m benchmarks.micro_model [--pairs 30] [--skip-large]

Our step and transformers' are timed in alternating pairs on the same random weights at a context of
128 tokens; printed are medians and the median ratio of a pair with its 95 % interval (bootstrap).
Then the products and the attention that core/model chose from, so that the choice can be checked on
another machine, and the error of bfloat16 against float32 at three positions.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from transformers import BloomConfig, BloomForCausalLM, DynamicCache

from core.model.cache import CachePool
from core.model.linear import HalfLinear, PackedLinear, TransposedLinear
from core.model.span import Rows, SpanModel
from core.terms import Span

CONTEXT = 128
READERS = 8
SHAPES = {
    "toy": {"hidden_size": 256, "n_layer": 8, "n_head": 8, "vocab_size": 2560},
    "560m": {"hidden_size": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 32_768},
}
WIDTHS = (9, 9, 9, 14, 11, 7)
Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--skip-large", action="store_true", help="the toy shape only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"{_cpu()} · torch {torch.__version__} · transformers {transformers.__version__} · 1 thread")
    titles = ("theirs", "ours", "speedup", "95 %", "8 at once", "gain")
    print(f"\n{'shape, dtype':<18}" + "".join(f"{t:>{w}}" for t, w in zip(titles, WIDTHS, strict=True)))
    shapes = {name: shape for name, shape in SHAPES.items() if name == "toy" or not options.skip_large}
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        for name, shape in shapes.items():
            folder = Path(scratch) / name
            torch.manual_seed(0)
            BloomForCausalLM(BloomConfig(**shape)).save_pretrained(folder)
            for dtype in (torch.float32, torch.bfloat16):
                compare(name, folder, dtype, options.pairs)
        products()
        precision(Path(scratch) / "toy")


def compare(name: str, folder: Path, dtype: torch.dtype, pairs: int) -> None:
    """One line of the table: a decode step of theirs, of ours, and of ours for eight sessions."""
    theirs, one, eight = _their_step(folder, dtype), *_our_steps(folder, dtype)
    for step in (theirs, one, eight):
        step()
    times = [(_seconds(theirs), _seconds(one), _seconds(eight)) for _ in range(pairs)]
    their, our, ours = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    speedups = [a / b for a, b, _ in times]
    gain = statistics.median(READERS * b / c for _, b, c in times)
    low, high = _interval(speedups)
    label = f"{name}, {str(dtype).removeprefix('torch.')}"
    print(
        f"{label:<18}{their:>6.1f} ms{our:>6.1f} ms{statistics.median(speedups):>8.2f}×"
        f"{low:>7.2f} – {high:<5.2f}{ours:>7.1f} ms{gain:>6.1f}×",
        flush=True,
    )


def _their_step(folder: Path, dtype: torch.dtype) -> Step:
    """A decode step of transformers over its growing cache, cut back to the context each time."""
    model = BloomForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    ids = torch.randint(0, model.config.vocab_size, (1, CONTEXT))
    cache = DynamicCache(config=model.config)
    model(ids, past_key_values=cache, use_cache=True)

    def step() -> None:
        model(ids[:, :1], past_key_values=cache, use_cache=True).logits[0, -1].argmax()
        cache.crop(-1)

    return step


def _our_steps(folder: Path, dtype: torch.dtype) -> tuple[Step, Step]:
    layers = Span(0, SpanModel.load(folder, Span(0, 1), dtype=dtype).config.layers)
    model = SpanModel.load(folder, layers, dtype=dtype)
    pool = CachePool(model.config, layers, dtype, "cpu", 16_384)
    slots = [pool.open() for _ in range(READERS)]
    ids = torch.randint(0, model.config.vocab, (CONTEXT,))
    for slot in slots:
        pool.reserve(slot, 2 * CONTEXT)
        model.run([Rows(slot, layers, 0, ids)], pool)

    def step(count: int) -> None:
        batch = [Rows(slot, layers, CONTEXT, ids[:1], 1) for slot in slots[:count]]
        for logits in model.run(batch, pool):
            logits[-1].argmax()

    return (lambda: step(1)), (lambda: step(READERS))


def products() -> None:
    """The forms of a product with a 4,096 × 1,024 matrix, over 12 matrices in turn as in a model."""
    print(f"\n{'product 4096×1024':<26}{'1 row':>10}{'8 rows':>10}{'128 rows':>10}")
    weights = [torch.randn(4096, 1024) * 0.02 for _ in range(12)]
    bias = torch.zeros(4096)
    halves = [weight.bfloat16() for weight in weights]
    forms: dict[str, tuple[torch.dtype, list[Callable[[torch.Tensor], object]]]] = {
        "float32 plain": (torch.float32, [lambda x, w=w: F.linear(x, w, bias) for w in weights]),
        "float32 transposed": (torch.float32, [TransposedLinear(w, bias) for w in weights]),
        "float32 packed": (torch.float32, [PackedLinear(w, bias) for w in weights]),
        "bfloat16 plain": (torch.bfloat16, [lambda x, w=w: F.linear(x, w, bias.bfloat16()) for w in halves]),
        "bfloat16 packed": (torch.bfloat16, [PackedLinear(w, bias.bfloat16()) for w in halves]),
        "float16 weights (head)": (torch.float32, [HalfLinear(w) for w in halves]),
    }
    for label, (dtype, form) in forms.items():
        times = []
        for rows in (1, 8, 128):
            x = torch.randn(rows, 1024, dtype=dtype)
            times.append(
                min(_seconds(lambda x=x, form=form: [f(x) for f in form]) for _ in range(8)) / len(form)
            )
        print(f"{label:<26}" + "".join(f"{1e3 * t:>7.2f} ms" for t in times), flush=True)


def precision(folder: Path) -> None:
    """The error of bfloat16's logits against float32 transformers', ours and theirs, as a share of the
    logits' own size, around three positions."""
    ids = torch.randint(0, 2560, (2001,))
    exact = BloomForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids[None]).logits[0]
    theirs = (
        BloomForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()(ids[None]).logits[0].float()
    )
    layers = Span(0, SHAPES["toy"]["n_layer"] + 2)
    model = SpanModel.load(folder, layers, dtype=torch.bfloat16)
    pool = CachePool(model.config, layers, torch.bfloat16, "cpu", 2048)
    slot = pool.open()
    pool.reserve(slot, len(ids))
    [ours] = model.run([Rows(slot, layers, 0, ids, len(ids))], pool)
    print(f"\n{'bfloat16 error at':<26}{'theirs':>10}{'ours':>10}")
    for position in (128, 500, 2000):
        around = slice(position - 20, position + 1)
        size = exact[around].norm()
        shares = [float((x[around] - exact[around]).norm() / size) for x in (theirs, ours)]
        print(f"{position:<26}" + "".join(f"{share:>9.2%} " for share in shares))


def _seconds(step: Step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _interval(values: list[float]) -> tuple[float, float]:
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(1000))
    return medians[25], medians[974]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
