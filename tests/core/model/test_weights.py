from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import ModelError
from core.model.config import read_config
from core.model.span import SpanModel
from core.model.weights import Checkpoint, span_tensors
from core.terms import Span

Make = Callable[..., Path]


def load(folder: Path, start: int = 0, end: int = 5) -> SpanModel:
    return SpanModel.load(folder, Span(start, end), dtype=torch.float32)


@pytest.fixture
def folder(make_model: Make) -> Path:
    return make_model()


@pytest.mark.parametrize("span", [Span(0, 1), Span(0, 2), Span(1, 3), Span(2, 4), Span(3, 5), Span(4, 5)])
def test_reads_only_the_span(folder: Path, span: Span, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a span touches exactly the tensors that its layers need."""
    read: set[str] = set()
    tensor = Checkpoint.tensor

    def recording(self: Checkpoint, name: str) -> torch.Tensor:
        read.add(name)
        return tensor(self, name)

    monkeypatch.setattr(Checkpoint, "tensor", recording)
    SpanModel.load(folder, span, dtype=torch.float32)
    blocks = {int(name.split(".")[1]) + 1 for name in read if name.startswith("h.")}
    assert blocks == {layer for layer in (1, 2, 3) if layer in span}
    assert read == set(span_tensors(read_config(folder), span, tied=True))


def test_a_span_needs_only_its_own_shards(make_model: Make) -> None:
    """A folder that lacks other spans' shards serves; the missing shard of its own is named."""
    folder = make_model(shard="60KB")
    shards = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(shards.values())) > 2
    mine = {name for key, name in shards.items() if ".h.0." in key}
    for path in folder.glob("*.safetensors"):
        if path.name not in mine:
            path.unlink()
    load(folder, 1, 2)
    with pytest.raises(ModelError, match=r"safetensors is missing\. Download"):
        load(folder, 3, 4)


def test_reports_progress(folder: Path) -> None:
    """Progress begins at nothing, never falls, and ends at all bytes of the span."""
    seen: list[tuple[int, int]] = []
    SpanModel.load(folder, Span(0, 5), dtype=torch.float32, progress=lambda *at: seen.append(at))
    done = [at for at, _ in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, seen[-1][1])
    assert len(seen) >= 5


@pytest.mark.parametrize("span", [Span(0, 6), Span(9, 12)])
def test_refuses_a_span_outside_the_model(folder: Path, span: Span) -> None:
    """A span beyond the head is refused with the layers that there are."""
    with pytest.raises(ModelError, match=f"span {span} is outside this model's layers 0 to 4"):
        SpanModel.load(folder, span, dtype=torch.float32)


def test_refuses_pickles(folder: Path) -> None:
    """A folder of pickled weights alone is refused, and told how to convert."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled .* Only safetensors .* save_pretrained"):
        load(folder)


def test_refuses_a_folder_without_weights(folder: Path) -> None:
    """A folder without any weights is said to be one."""
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no model"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.999])
def test_refuses_a_truncated_file(folder: Path, keep: float) -> None:
    """A file cut off in its length, header or data is refused before anything is loaded."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 or keep == 0 else keep * len(data))])
    with pytest.raises(ModelError, match="cut off"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("transformer.h.1.mlp.dense_h_to_4h.weight", lambda t: t[:-1].clone(), "has shape"),
        ("transformer.h.1.input_layernorm.bias", lambda t: t[None].clone(), "has shape"),
        ("transformer.word_embeddings.weight", lambda t: t[:-1].clone(), "has shape"),
        ("transformer.ln_f.weight", lambda t: t.to(torch.int32), "stored as I32"),
    ],
)
def test_refuses_a_wrong_tensor(
    folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    """A tensor of the wrong shape or dtype is named."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors[name])
    save_file(tensors, path)
    with pytest.raises(ModelError, match=words) as caught:
        load(folder)
    assert name.removeprefix("transformer.") in str(caught.value)


def test_refuses_a_missing_tensor(folder: Path) -> None:
    """A tensor that the span needs and the file lacks is named; other spans still load."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["transformer.h.1.mlp.dense_h_to_4h.weight"]
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"no tensor h\.1\.mlp\.dense_h_to_4h\.weight"):
        load(folder)
    load(folder, 3, 5)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [48], "data_offsets": [0, 1 << 60]},
        {"dtype": "F32", "shape": [48], "data_offsets": [8, 4]},
        {"dtype": "F32", "shape": [48], "data_offsets": [-4, 188]},
        {"dtype": "F32", "shape": [48], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [48.5], "data_offsets": [0, 194]},
        {"dtype": "F32", "data_offsets": [0, 4]},
        "nonsense",
        None,
    ],
)
def test_refuses_a_lying_header(folder: Path, entry: object) -> None:
    """Offsets, shapes and counts that contradict the file are refused."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["transformer.ln_f.bias"] = entry
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(ModelError, match=r"damaged|cut off"):
        load(folder)


@pytest.mark.parametrize("header", [b"[]", b"{broken", b"\xff\xff"])
def test_refuses_a_header_that_is_not_an_object(folder: Path, header: bytes) -> None:
    """A header that is not a JSON object is refused."""
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match="damaged"):
        load(folder)


def test_refuses_an_index_that_points_elsewhere(make_model: Make) -> None:
    """An index cannot name files outside its folder."""
    folder = make_model(shard="60KB")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["transformer.ln_f.bias"] = "../other.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(ModelError, match="weight_map"):
        load(folder)


def test_reads_tensors_that_lie_unaligned(folder: Path) -> None:
    """A file whose data starts at an odd byte gives the same values."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length] + b" "
    expected = load_file(path)["transformer.ln_f.bias"].clone()  # mapped from the file rewritten below
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert torch.equal(Checkpoint(folder).tensor("ln_f.bias"), expected)
