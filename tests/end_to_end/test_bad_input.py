"""What cannot work is said in one line, with what to do about it; no traceback reaches a person."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from core.paths import bundled_model
from tests.end_to_end.programs import Folder

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the bundled model, to be damaged."""
    return shutil.copytree(bundled_model(), tmp_path / "model")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("demo", "--donors", "0"), "“0” is not a whole number from 1 to 64"),
        (("demo", "--donors", "many"), "“many” is not a whole number"),
        (("demo", "--spans", "0-4"), "“0-4” is no list of spans such as 0:4,4:7,7:10"),
        (("demo", "--spans", "4:4"), "is no list of spans"),
        (("demo", "--spans", "0:4", "--donors", "2"), "not allowed with argument"),
        (("demo", "--port", "65536"), "“65536” is not a whole number from 0 to 65535"),
        (("demo", "--rest", "-1"), "“-1” is not a number of seconds"),
        (("demo", "--ask", "Hi", "--max-tokens", "0"), "“0” is not a whole number from 1"),
        (("ask", "Hi", "--max-tokens=-1"), "“-1” is not a whole number from 1"),
        (("ask", "Hi", "--seed", "x"), "“x” is not a whole number"),
        (("ask", " "), "the question is empty, write something between the quotes"),
        (("settings", "set", "port", "banana"), "port must be a whole number from 1024 to 65535"),
        (("node", "--port", "-1"), "“-1” is not a whole number from 0 to 65535"),
        (("node", "--peers", "here"), "peers must be"),
        (("bootstrap", "--port", "x"), "“x” is not a whole number"),
        (("bootstrap", "--host", "here"), "“here” is not an IPv4 address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_arguments(place: Folder, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 2 and one line."""
    program = place.run(*arguments)
    assert (program.process.returncode, program.out) == (2, "")
    assert words in program.err and program.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--spans", "0:4,4:11"), "span 4:11 is outside this model's layers 0 to 9"),
        (("--donors", "11"), "11 donors cannot share 10 layers. Give --donors at most 10."),
        (("--model", "/nowhere"), "there is no model folder /nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_started(place: Folder, arguments: tuple[str, ...], words: str) -> None:
    """Said before any donor starts."""
    assert words in place.refusal("demo", "--no-browser", *arguments)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def pickle_only(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": 1}))


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def reshape(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = next(name for name in tensors if name.endswith("h.4.mlp.dense_h_to_4h.weight"))
    tensors[name] = tensors[name][:-1].copy()
    with safe_open(folder / WEIGHTS, "np") as file:
        metadata = file.metadata()
    save_file(tensors, folder / WEIGHTS, metadata)


def other_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove("config.json"), "config.json is missing"),
        (remove("tokenizer.json"), "tokenizer.json is missing"),
        (other_kind, "describes a model of type 'llama', not BLOOM"),
        (remove(WEIGHTS), "safetensors"),
        (pickle_only, "safetensors"),
        (truncate, WEIGHTS),
        (reshape, "h.4.mlp.dense_h_to_4h.weight"),
    ],
    ids=[
        "no config",
        "no tokenizer",
        "another kind",
        "no weights",
        "pickle only",
        "truncated",
        "wrong shape",
    ],
)
def test_a_damaged_model(place: Folder, model: Path, damage: Callable[[Path], None], words: str) -> None:
    """The file or tensor at fault is named, and all donors end."""
    damage(model)
    said = place.refusal("demo", "--no-browser", "--donors", "1", "--model", str(model), "--ask", "Hi")
    assert words in said and "Traceback" not in said and "unexpected" not in said


def test_layers_without_a_donor(place: Folder) -> None:
    """The hole is named by its layers."""
    said = place.refusal("demo", "--spans", "0:4,7:10", "--ask", "Hi")
    assert said.startswith("layers 4 to 6 have no donor")
