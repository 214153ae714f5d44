"""Compiled kernels that are kept, with a compiler that counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from core.model.cuda import kernels
from core.model.cuda.kept import Kept


def test_kernels_are_compiled_once_for_each_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order they are asked for; for another card, or of another source, anew."""
    compiled: list[tuple[int, int]] = []

    def compile_(names: Sequence[str], capability: tuple[int, int]) -> tuple[bytes, list[bytes]]:
        compiled.append(capability)
        return b"\n".join([b"code", *map(str.encode, names)]), [f"_{name}".encode() for name in names]

    monkeypatch.setattr(kernels, "_compile", compile_)
    monkeypatch.setattr(kernels, "kept", Kept(tmp_path))
    first = kernels._code(["a<1>", "b"], (9, 0))
    assert first == (b"code\na<1>\nb", [b"_a<1>", b"_b"])
    assert kernels._code(["a<1>", "b"], (9, 0)) == first
    assert kernels._code(["b", "a<1>"], (9, 0)) == (first[0], [b"_b", b"_a<1>"])
    assert compiled == [(9, 0)]
    kernels._code(["a<1>", "b"], (8, 6))
    monkeypatch.setattr(kernels, "_source", lambda: b"another")
    kernels._code(["a<1>", "b"], (9, 0))
    assert compiled == [(9, 0), (8, 6), (9, 0)]
