"""The Debian package: built twice, and judged by Debian's and the desktop's own checkers."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.root


def test_two_builds_give_the_same_bytes(deb: Path, build: ModuleType, tmp_path: Path) -> None:
    """Whoever builds this commit gets the package that was released."""
    assert build.deb(tmp_path).read_bytes() == deb.read_bytes()


def test_lintian_finds_nothing(deb: Path) -> None:
    """Debian's own checks find no error and no warning."""
    done = subprocess.run(
        ["lintian", "--allow-root", "--profile", "debian", "--fail-on", "error,warning", deb],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_desktop_files_are_valid(deb: Path, tmp_path: Path) -> None:
    """The menu entry and the software centre's description keep to their specifications."""
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path], check=True)
    share = tmp_path / "usr" / "share"
    subprocess.run(["desktop-file-validate", share / "applications" / "idlebloom.desktop"], check=True)
    metainfo = next((share / "metainfo").glob("*.metainfo.xml"))
    subprocess.run(["appstreamcli", "validate", "--no-net", metainfo], check=True, capture_output=True)
