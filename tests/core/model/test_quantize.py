from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.errors import DiskError, ModelError
from core.model import quantize
from core.model.cache import CachePool
from core.model.config import read_config
from core.model.quantize import Quantization, stored_layers
from core.model.span import Rows, SpanModel
from core.model.store import Store, store_of
from core.model.weights import Checkpoint
from core.paths import code
from core.terms import Span

Make = Callable[..., Path]
KINDS = [Quantization.INT8, Quantization.NF4]
ALL = Span(0, 5)


@pytest.fixture
def folder(make_model: Make) -> Path:
    return make_model(hidden=64, heads=4, dtype=torch.float16, spread=0.1)


def load(
    folder: Path, kind: Quantization, store: Path | None = None, span: Span = ALL, **how: object
) -> SpanModel:
    how = {"dtype": torch.float32} | how
    return SpanModel.load(folder, span, quantization=kind, store=store, **how)  # type: ignore[arg-type]


def logits(model: SpanModel) -> torch.Tensor:
    """Of 12 positions, in one step and then position by position."""
    pool = CachePool(model.config, model.span, model.dtype, max_length=64, slots=1)
    slot = pool.open()
    assert pool.reserve(slot, 64)
    ids = torch.arange(12) * 7 % model.config.vocab
    (whole,) = model.run([Rows(slot, model.span, 0, ids, logits=12)], pool)
    steps = [model.run([Rows(slot, model.span, at, ids[at : at + 1], logits=1)], pool)[0] for at in range(12)]
    assert torch.allclose(torch.cat(steps), whole, atol=0.05 * float(whole.abs().max()))
    return whole


def files(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.rglob("*.safetensors")}


@pytest.mark.parametrize(("kind", "error"), [(Quantization.INT8, 0.05), (Quantization.NF4, 0.4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_close_to_the_original(folder: Path, kind: Quantization, error: float, dtype: torch.dtype) -> None:
    """A quantized model's logits are near the original's: nearer in 8 bits than in 4."""
    original = logits(load(folder, Quantization.NONE))
    found = logits(load(folder, kind, dtype=dtype))
    assert found.dtype == torch.float32
    assert float((found - original).norm() / original.norm()) < error


@pytest.mark.parametrize("kind", KINDS)
def test_is_quantized_once(
    folder: Path, tmp_path: Path, kind: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second start quantizes nothing, reads no matrix of the checkpoint, and gives the same logits."""
    first = logits(load(folder, kind, tmp_path))
    before = files(tmp_path)
    assert set(before) == {"h.0.safetensors", "h.1.safetensors", "h.2.safetensors", "head.safetensors"}
    monkeypatch.setattr(quantize, "pack", lambda *args: pytest.fail("quantized again"))
    read: list[str] = []
    tensor = Checkpoint.tensor
    monkeypatch.setattr(Checkpoint, "tensor", lambda self, name: read.append(name) or tensor(self, name))
    assert torch.equal(logits(load(folder, kind, tmp_path)), first)
    assert read == [
        "word_embeddings_layernorm.weight",
        "word_embeddings_layernorm.bias",
        "word_embeddings.weight",
    ]
    assert files(tmp_path) == before


def test_a_moved_span_keeps_its_layers(folder: Path, tmp_path: Path) -> None:
    """Of a span that moves by a layer only the new one is quantized."""
    load(folder, Quantization.NF4, tmp_path, Span(1, 3))
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*.safetensors")}
    load(folder, Quantization.NF4, tmp_path, Span(2, 4))
    after = {path: path.stat().st_ino for path in tmp_path.rglob("*.safetensors")}
    assert before.items() <= after.items() and len(after) == 3


def test_stored_layers_need_no_weights(make_model: Make, tmp_path: Path) -> None:
    """A fetched folder that has lost the weights of quantized layers still serves them."""
    folder = make_model(hidden=64, heads=4, shard="130KB")
    source = {"model_id": "maker/sharded", "revision": "0" * 40}
    (folder / "idlebloom.json").write_text(json.dumps(source))
    load(folder, Quantization.NF4, tmp_path, Span(1, 3))
    config = read_config(folder)
    assert stored_layers(store_of(tmp_path, folder, config, Quantization.NF4), config) == {1, 2}
    for path in folder.glob("*.safetensors"):
        path.unlink()
    load(folder, Quantization.NF4, tmp_path, Span(1, 3))
    with pytest.raises(ModelError, match="is missing"):
        load(folder, Quantization.NF4, tmp_path, Span(1, 4))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-10], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b""]
)
def test_a_damaged_file_is_made_anew(
    folder: Path, tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """A stored layer that is cut off or changed is noticed, said, and quantized again."""
    load(folder, Quantization.NF4, tmp_path)
    before = files(tmp_path)
    path = next(tmp_path.rglob("h.1.safetensors"))
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        load(folder, Quantization.NF4, tmp_path)
    assert "made anew" in caplog.text
    assert files(tmp_path) == before


def test_changed_weights_are_quantized_anew(folder: Path, tmp_path: Path) -> None:
    """Weights written again into a local folder are not mistaken for those that were quantized."""
    first = logits(load(folder, Quantization.INT8, tmp_path))
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    data[8 + length :: 2] = bytes(len(data[8 + length :: 2]))  # other numbers in the same shapes
    path.unlink()
    path.write_bytes(data)
    assert not torch.equal(logits(load(folder, Quantization.INT8, tmp_path)), first)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full while a layer is written leaves no file, and a sentence."""

    def full(*args: object, **kwargs: object) -> None:
        Path(str(args[1])).write_bytes(b"part of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.model.store.save_file", full)
    with pytest.raises(DiskError, match="no space left on device"):
        Store(tmp_path / "store").write("h.0", {"a": torch.zeros(3)})
    assert list((tmp_path / "store").iterdir()) == []


def test_holds_one_matrix_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each matrix is quantized before the next one is read."""
    events: list[str] = []
    tensor, pack = Checkpoint.tensor, quantize.pack

    def reading(self: Checkpoint, name: str) -> torch.Tensor:
        found = tensor(self, name)
        if found.dim() == 2 and "word" not in name:
            events.append("read")
        return found

    def packing(*args: object) -> dict[str, torch.Tensor]:
        events.append("packed")
        return pack(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoint, "tensor", reading)
    monkeypatch.setattr(quantize, "pack", packing)
    load(folder, Quantization.NF4, span=Span(1, 4))
    assert events == ["read", "packed"] * 12


@pytest.mark.parametrize("kind", KINDS)
def test_takes_less_memory(folder: Path, tmp_path: Path, kind: Quantization) -> None:
    """A quantized layer takes about half or a quarter of its float16 bytes."""
    load(folder, kind, tmp_path, Span(1, 2))
    size = sum(t.numel() * t.itemsize for t in load_file(next(tmp_path.rglob("h.0.safetensors"))).values())
    original = 2 * 12 * 64 * 64
    assert size / original < {Quantization.INT8: 0.57, Quantization.NF4: 0.42}[kind]


def test_is_silent(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """bitsandbytes' notes about what it can do without reach nobody."""
    logits(load(folder, Quantization.NF4, dtype=torch.bfloat16))
    out, err = capfd.readouterr()
    assert "kernels" not in out + err and "cast" not in out + err


def test_names_what_is_missing(folder: Path, tmp_path: Path) -> None:
    """A stored layer without a matrix is a sentence with the fix."""
    load(folder, Quantization.NF4, tmp_path, Span(1, 2))
    store = Store(next(tmp_path.rglob("h.0.safetensors")).parent)
    held = store.read("h.0")
    assert held
    store.write("h.0", {name: one for name, one in held.items() if name != "mlp.dense_4h_to_h.nf4"})
    with pytest.raises(ModelError, match=r"lacks 'mlp\.dense_4h_to_h\.nf4'"):
        load(folder, Quantization.NF4, tmp_path, Span(1, 2))


def test_bitsandbytes_brings_no_compiler_along() -> None:
    """torch's would take seconds of every start; what others compile is compiled all the same."""
    script = (
        "import sys, torch; from core.model.quantize import load_bitsandbytes; before = torch.compile; "
        "load_bitsandbytes(); assert torch.compile is before; "
        "print('torch._inductor.compile_fx' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=code(), check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
