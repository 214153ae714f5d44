from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from core import json_file
from core.errors import DiskError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """A file comes back as it was, private, and without leftovers beside it."""
    file = tmp_path / "new" / "a.json"
    json_file.write(file, {"ü": [1, None]})
    assert json_file.read(file) == {"ü": [1, None]}
    assert file.stat().st_mode & 0o777 == 0o600
    assert [f.name for f in file.parent.iterdir()] == ["a.json"]


def test_no_file_is_empty(tmp_path: Path) -> None:
    """A file that does not exist holds nothing, and stays away."""
    assert json_file.read(tmp_path / "a.json") == {}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """It is said, with what to do."""
    with pytest.raises(DiskError) as caught:
        json_file.read(tmp_path)
    assert "is a directory" in str(caught.value) and caught.value.advice


@pytest.mark.parametrize(
    "content", [b"", b'{"a": 1', b"[1]", b"\xff\xfe", b"null", b"[" * 100_000], ids=range(6)
)
def test_a_broken_file_is_kept_aside(tmp_path: Path, content: bytes) -> None:
    """Whatever is no JSON object is moved out of the way unchanged, and said once."""
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(json_file.Broken, match=r"damaged .* kept as a\.json\.broken-") as caught:
        json_file.read(file)
    assert caught.value.kept.read_bytes() == content
    assert json_file.read(file) == {}


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, the old content stays, nothing is left over, and it is said."""
    file = tmp_path / "a.json"
    json_file.write(file, {"old": True})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="no space left on device"):
        json_file.write(file, {"old": False})
    assert json.loads(file.read_text()) == {"old": True}
    assert len(list(tmp_path.iterdir())) == 1
