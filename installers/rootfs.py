"""The root file system of the WSL2 distribution that runs the node on Windows: Debian's packages and ours.

``base`` fetches Debian; ``complete`` adds the program, its user and WSL's settings; ``pack`` makes the
archive, the same bytes from the same packages and commit. Needs root and mmdebstrap.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent / "wsl"
RELEASE = "bookworm"
MIRROR, SECURITY = "http://deb.debian.org/debian", "http://deb.debian.org/debian-security"
PACKAGES = ("python3", "ca-certificates", "usr-is-merged")
USER = "idlebloom"
LEFT_OUT = (
    *("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/bug"),
    *("var/cache/apt", "var/lib/apt/lists", "var/log", "var/cache/debconf", "var/cache/ldconfig"),
    *("dev", "proc", "sys", "run", "tmp", "etc/resolv.conf", "etc/hostname", "var/lib/dpkg/status-old"),
)
"""What a distribution without a shell for people has no use for, what WSL makes itself, and what differs from
one build to the next. Folders stay, empty."""


def sources() -> list[str]:
    """Where Debian comes from; a mirror of one day, such as snapshot.debian.org's, makes old bytes again."""
    mirror = os.environ.get("IDLEBLOOM_DEBIAN", MIRROR)
    security = os.environ.get("IDLEBLOOM_DEBIAN_SECURITY", SECURITY)
    return [
        f"deb {mirror} {RELEASE} main",
        f"deb {mirror} {RELEASE}-updates main",
        f"deb {security} {RELEASE}-security main",
    ]


def base(root: Path, moment: int) -> None:
    """A clean, minimal Debian in the folder ``root``."""
    command = ["unshare", "--mount"]  # however it ends, its mounts do too
    command += ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}"]
    command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--skip=cleanup/apt/lists"]
    command += [RELEASE, str(root), *sources()]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(moment)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Debian could not be fetched: {done.stderr[-2000:]}")


def complete(root: Path, package: Path, version: str, moment: int) -> None:
    """Makes ``root`` the distribution; ``package`` is the Linux package's files."""
    epoch = {**os.environ, "SOURCE_DATE_EPOCH": str(moment)}
    user = ["useradd", "--root", str(root), "--create-home", "--uid", "1000", "--shell", "/bin/sh", USER]
    subprocess.run(user, check=True, env=epoch)
    lib = root / "usr/lib/idlebloom"
    shutil.copytree(package / "usr/lib/idlebloom", lib)
    shutil.copytree(package / "usr/share/doc/idlebloom", root / "usr/share/doc/idlebloom")
    for name, target, mode in (
        ("wsl.conf", "etc/wsl.conf", 0o644),
        ("idlebloom.sh", "usr/bin/idlebloom", 0o755),
        ("renew.sh", "usr/lib/idlebloom/renew", 0o755),
    ):
        shutil.copyfile(HERE / name, root / target)
        (root / target).chmod(mode)
    (root / "etc/idlebloom-version").write_text(f"{version}\n", encoding="utf-8")
    (root / "etc/machine-id").write_text("", encoding="utf-8")
    for name in LEFT_OUT:
        empty(root / name)
    for backup in (root / "etc").glob("*-"):
        backup.unlink()
    for folder in (root / "usr/share/doc").iterdir():
        for path in [] if folder.is_symlink() else folder.iterdir():
            if path.name != "copyright":  # licences are carried with what they are of
                empty(path)


def empty(path: Path) -> None:
    """No file, or an empty folder."""
    if path.is_dir() and not path.is_symlink():
        mode = path.stat().st_mode
        shutil.rmtree(path)
        path.mkdir()
        path.chmod(mode)
    else:
        path.unlink(missing_ok=True)


def pack(root: Path, target: Path, moment: int) -> None:
    """A .tar.gz that every ``wsl --import`` takes: sorted, owners as numbers, no time after ``moment``."""

    def settle(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = min(int(member.mtime), moment)
        member.uname = member.gname = ""
        return member

    part = target.with_name(f"{target.name}.part")
    with (
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=moment) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(root, ".", recursive=False, filter=settle)
        for path in sorted(root.rglob("*"), key=lambda path: path.relative_to(root).parts):
            archive.add(path, f"./{path.relative_to(root)}", recursive=False, filter=settle)
    part.replace(target)


def packages(root: Path) -> list[tuple[str, str]]:
    """Names and versions of Debian's packages in it."""
    command = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [(name, version) for name, version in (line.split() for line in done.stdout.splitlines())]
