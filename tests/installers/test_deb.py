"""The Debian package: built twice, judged by lintian, and used in a clean Debian 12 by an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MIRROR = "http://deb.debian.org/debian"
pytestmark = pytest.mark.root


def build(out: Path) -> Path:
    command = [sys.executable, TOP / "installers" / "build.py", "deb", "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.deb"))


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


def test_two_builds_give_the_same_bytes(deb: Path, tmp_path: Path) -> None:
    """Whoever builds this commit gets the package that was released."""
    assert build(tmp_path).read_bytes() == deb.read_bytes()


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


class Debian:
    """A clean Debian 12 in a folder, entered with mounts that end with each command."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        inside = (
            f"mount --make-rprivate / && mount -t proc proc {self.root}/proc && "
            f"mount --bind /dev {self.root}/dev && mount -t tmpfs tmpfs {self.root}/dev/shm && "
            f"mount --bind {self.root}/wheels {self.root}/wheels && "
            f"exec chroot {self.root} sh -c '{command}'"
        )
        if wheels := os.environ.get("PIP_FIND_LINKS"):
            inside = inside.replace(f"--bind {self.root}/wheels", f"--bind {wheels}")
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", inside],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def as_anna(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        variables = "HOME=/home/anna SSL_CERT_FILE=/host-ca.crt IDLEBLOOM_WHEELS=/wheels"
        return self.run(f"runuser -u anna -- env {variables} {command}", check)


@pytest.fixture(scope="module")
def debian(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    root = tmp_path_factory.mktemp("debian") / "root"
    packages = "python3,ca-certificates,procps"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=apt", f"--include={packages}", "bookworm", root, MIRROR],
        check=True,
    )
    (root / "wheels").mkdir()
    for source, target in (
        ("/etc/resolv.conf", "etc/resolv.conf"),
        ("/etc/ssl/certs/ca-certificates.crt", "host-ca.crt"),
    ):
        (root / target).write_bytes(Path(source).read_bytes())
    (root / "tmp" / deb.name).write_bytes(deb.read_bytes())
    made = Debian(root)
    made.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends /tmp/{deb.name}")
    made.run("useradd -m anna")
    yield made
    subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)


def test_it_answers_and_leaves_nothing(debian: Debian) -> None:
    """An ordinary user's first command fetches the environment and answers; the second one fetches nothing;
    removing the package takes the environment away, purging it all else, and another user's files stay."""
    answer = debian.as_anna('idlebloom demo --ask "What is Idlebloom?" --greedy --json')
    assert "first start fetches" in answer.stderr
    found = json.loads(answer.stdout)
    assert "Idlebloom" in found["text"]
    assert len(found["route"]) == 3
    again = debian.as_anna("idlebloom settings set port 7800")
    assert "fetches" not in again.stderr
    assert (debian.root / "home" / "anna" / ".config" / "idlebloom" / "settings.json").exists()
    mine = debian.root / "home" / "anna" / "mine.txt"
    mine.write_text("kept")
    share = debian.root / "home" / "anna" / ".local" / "share" / "idlebloom"
    settings = debian.root / "home" / "anna" / ".config" / "idlebloom" / "settings.json"
    assert share.exists()
    debian.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y -qq idlebloom")
    assert (share.exists(), settings.exists()) == (False, True)
    debian.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq idlebloom")
    left = [path for path in debian.root.rglob("*idlebloom*") if "/tmp/" not in str(path)]
    assert [path for path in left if "var/log" not in str(path) and "var/cache" not in str(path)] == []
    assert mine.read_text() == "kept"
