"""The root file system's archive, on small folders."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

MOMENT = 1_700_000_000


@pytest.fixture(scope="module")
def rootfs(build: ModuleType) -> ModuleType:
    import rootfs as module

    return module


def tree(root: Path, names: list[str], when: int) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(0o640)
        os.utime(path, (when, when))
    (root / "bin").symlink_to("usr/bin")
    return root


def test_the_same_files_are_the_same_bytes(rootfs: ModuleType, tmp_path: Path) -> None:
    """Whatever the order in which they were made, and at whatever time after the commit."""
    names = ["usr/bin/a", "usr/bin/b", "etc/c", "etc-d"]
    one = tree(tmp_path / "one", names, MOMENT + 5)
    other = tree(tmp_path / "other", names[::-1], MOMENT + 9)
    for root in (one, other):
        rootfs.pack(root, root.with_suffix(".tar.gz"), MOMENT)
    assert one.with_suffix(".tar.gz").read_bytes() == other.with_suffix(".tar.gz").read_bytes()
    with tarfile.open(one.with_suffix(".tar.gz")) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert members["./bin"].issym() and members["./usr/bin/a"].mode == 0o640
    assert {member.mtime for member in members.values()} == {MOMENT}
    assert {(member.uname, member.gname) for member in members.values()} == {("", "")}


def test_an_older_file_keeps_its_time(rootfs: ModuleType, tmp_path: Path) -> None:
    """Python's compiled modules are good only beside sources of the time that they name."""
    root = tree(tmp_path / "one", ["usr/lib/x.py"], MOMENT - 1000)
    rootfs.pack(root, tmp_path / "x.tar.gz", MOMENT)
    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        assert archive.getmember("./usr/lib/x.py").mtime == MOMENT - 1000


def test_a_mirror_of_one_day_may_be_named(rootfs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's packages change: who wants a release's bytes again names the mirror of its day."""
    monkeypatch.setenv("IDLEBLOOM_DEBIAN", "http://mirror.example/20261127")
    assert rootfs.sources()[0] == "deb http://mirror.example/20261127 bookworm main"
