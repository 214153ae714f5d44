"""What quantizing costs in quality: the bundled model in 16, 8 and 4 bits, on the conversation it learned.

    python -m benchmarks.quality [--device cuda] [--save FOLDER]

Every answer of the conversation is given to the model after its question. At each of its tokens are
compared, with the same model in float32: the logits (root mean square of the difference over that of the
logits, both centred), how well the token was foretold (perplexity), and which token is the likeliest
(greedy agreement, and the share of answers in which all agree). Then the bytes of weights on disk.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from core.model.cache import CachePool
from core.model.config import read_config
from core.model.quantize import Quantization
from core.model.span import Rows, SpanModel
from core.model.text import Text
from core.paths import bundled_model, code
from core.routing.ask import Message
from core.terms import Span

FORMS = (
    ("float32, none", torch.float32, Quantization.NONE),
    ("bfloat16, none", torch.bfloat16, Quantization.NONE),
    ("float32, int8", torch.float32, Quantization.INT8),
    ("bfloat16, int8", torch.bfloat16, Quantization.INT8),
    ("float32, nf4", torch.float32, Quantization.NF4),
    ("bfloat16, nf4", torch.bfloat16, Quantization.NF4),
)


@dataclass(frozen=True)
class Sample:
    """A question and its answer as tokens; the answer's first is at ``start``."""

    ids: Tensor
    start: int


@dataclass(frozen=True)
class Quality:
    """One row: ``bits`` a number of the blocks' matrices on disk, scales included."""

    form: str
    device: str
    logit_error: float
    perplexity: float
    greedy: float
    answers: float
    tokens: int
    bits: float
    at: str = ""
    versions: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", type=Path, help="put the rows into quality.json and quality.md there")
    options = parser.parse_args()
    torch.set_num_threads(1)  # beside a busy neighbour two threads wait for each other most of the time
    rows = measure(torch.device(options.device))
    print(markdown(rows))
    if options.save:
        save(rows, options.save)


def measure(device: torch.device, limit: int | None = None) -> list[Quality]:
    """All forms on ``device``, over the first ``limit`` answers, or all."""
    folder = bundled_model()
    samples = conversation(Text(folder))[:limit]
    numbers = 12 * read_config(folder).hidden ** 2
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rows: list[Quality] = []
    wanted: list[Tensor] = []
    for form, dtype, kind in FORMS:
        with tempfile.TemporaryDirectory() as scratch:
            store = Path(scratch)
            whole = Span(0, read_config(folder).layers)
            model = SpanModel.load(folder, whole, dtype=dtype, device=device, quantization=kind, store=store)
            found = list(answers(model, samples))
            wanted = wanted or found
            layer = next(store.rglob("h.0.safetensors"), None)
            bits = 8 * (layer.stat().st_size if layer else numbers * dtype.itemsize) / numbers
        rows.append(replace(compare(found, wanted, samples), form=form, device=name, bits=bits))
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    versions = ", ".join(f"{one} {importlib.metadata.version(one)}" for one in ("torch", "bitsandbytes"))
    return [replace(row, at=at, versions=versions) for row in rows]


def conversation(text: Text) -> list[Sample]:
    """Every question of the table in its proper wording, with its answer and its end."""
    table = tomllib.loads((code() / "assets" / "conversation.toml").read_text(encoding="utf-8"))
    samples = []
    for talk in table["talk"]:
        asked = text.encode(text.chat([Message("user", talk["ask"][0])]))
        said = text.encode(f" {talk['answer']}</s>")
        samples.append(Sample(torch.tensor(asked + said), len(asked)))
    return samples


def answers(model: SpanModel, samples: Sequence[Sample]) -> list[Tensor]:
    """For each sample the logits [tokens of the answer, vocab] that foretell them, on the CPU."""
    found = []
    for sample in samples:
        pool = CachePool(model.config, model.span, model.dtype, model.device, 1024, max_length=1024, slots=1)
        slot = pool.open()
        count = len(sample.ids)
        pool.reserve(slot, count)
        rows = Rows(slot, model.span, 0, sample.ids, logits=count - sample.start + 1)
        found.append(model.run([rows], pool)[0][:-1].cpu())
    return found


def compare(found: Sequence[Tensor], wanted: Sequence[Tensor], samples: Sequence[Sample]) -> Quality:
    off = scale = loss = 0.0
    same: list[Tensor] = []
    for ours, theirs, sample in zip(found, wanted, samples, strict=True):
        centred = theirs - theirs.mean(-1, keepdim=True)
        off += float((ours - ours.mean(-1, keepdim=True) - centred).square().sum())
        scale += float(centred.square().sum())
        said = sample.ids[sample.start :]
        loss += float(torch.nn.functional.cross_entropy(ours, said, reduction="sum"))
        same.append(ours.argmax(-1) == theirs.argmax(-1))
    tokens = sum(len(one) for one in same)
    return Quality(
        form="",
        device="",
        logit_error=math.sqrt(off / scale),
        perplexity=math.exp(loss / tokens),
        greedy=sum(int(one.sum()) for one in same) / tokens,
        answers=sum(bool(one.all()) for one in same) / len(same),
        tokens=tokens,
        bits=0.0,
    )


def markdown(rows: Sequence[Quality]) -> str:
    lines = [
        "| device | computes in, kept in | logit error | perplexity | greedy tokens | whole answers | bits |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.device} | {row.form} | {row.logit_error:.2%} | {row.perplexity:.4f} | {row.greedy:.2%} | "
        f"{row.answers:.1%} | {row.bits:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def save(rows: Sequence[Quality], folder: Path) -> None:
    """Put ``rows`` in place of those of the same device, and write the table anew."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "quality.json"
    old = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    devices = {row.device for row in rows}
    kept = [Quality(**row) for row in old if row["device"] not in devices]
    all_rows = [*kept, *rows]
    written = {"title": TITLE, "rows": [asdict(row) for row in all_rows]}
    file.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    runs = {f"- {row.device}: {row.at}, {row.versions}, {row.tokens} tokens" for row in all_rows}
    page = [f"# {TITLE}", "", NOTES, "", markdown(all_rows), "", *sorted(runs), ""]
    (folder / "quality.md").write_text("\n".join(page), encoding="utf-8")


TITLE = "Quality by kind of quantization"
NOTES = """The bundled model on the conversation it was trained on, by `python -m benchmarks.quality`.
Error, greedy tokens and whole answers are against the same model in float32, unquantized, on the same
device, token by token with the answer so far as it should be; perplexity is of the conversation's own
answers. Bits are those of a number of a block on disk, scales, norms and biases included. With int8 and
NF4 alike the head is int8 and the embedding is as in the checkpoint. The model is small and knows its
text by heart: it has none of the outliers that large models have, and no spare numbers to lose."""


if __name__ == "__main__":
    main()
