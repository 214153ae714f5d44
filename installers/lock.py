"""Writes installers/lock.json and windows/lock.json: every file that a first start may fetch, with size and
SHA-256.

    python installers/lock.py

Versions come from constraints.txt. *base* is what talks to a node, *screen* what the tray and its window need
besides, so that they are there at once; *node* is the rest; *cuda* is PyTorch with its libraries, in place of
which a PC without an NVIDIA driver takes *torch_cpu*. A package's files are listed for each Python in
``PYTHONS``. Windows' list is of the tray alone, since the node runs in its Linux. Needs uv and the index.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import tomllib
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
INDEX = "https://pypi.org/simple/"
PYTHONS = ("3.11", "3.12", "3.13")
BASE = ("appdirs", "keyring", "nvidia-ml-py", "psutil")
SCREEN = ("PySide6-Essentials",)
CUDA = re.compile(r"^(cuda-|nvidia-(?!ml-py)|torch$|triton$)")
GLIBC = 36
"""Debian 12's C library is 2.36."""
PLATFORM = f"x86_64-manylinux_2_{GLIBC}"
WINDOWS, WINDOWS_PYTHON = "x86_64-pc-windows-msvc", "3.11.18"
"""uv fetches that Python, and has its hash: the newest 3.11 that the pinned uv knows."""
TORCH_CPU_URL = "https://download.pytorch.org/whl/cpu/"
TORCH_CPU = {
    "3.11": (191_794_682, "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"),
    "3.12": (191_817_609, "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2"),
    "3.13": (191_815_667, "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6"),
}
"""Size and SHA-256 of PyTorch's CPU builds, which are not on PyPI. Python 3.11's were read off the file; the
others are what the lock files of several unrelated projects agree on, whose entry for 3.11 is the one read
here. A wrong one could only make a first start refuse the file."""


def main() -> None:
    packages: dict[str, dict[str, Any]] = {}
    for python in PYTHONS:
        base, screen = closure(python, [*BASE]), closure(python, [*SCREEN])
        everything = closure(python, requirements())
        for name, version in sorted(everything.items()):
            group = next((g for g, names in (("base", base), ("screen", screen)) if name in names), "node")
            group = "cuda" if CUDA.match(name) else group
            package = packages.setdefault(name, {"version": version, "group": group, "files": {}})
            package["files"][python] = chosen(name, version, python)
    lock = {"pythons": list(PYTHONS), "packages": packages, "torch_cpu": torch_cpu(), "tools": tools()}
    (HERE / "lock.json").write_text(json.dumps(lock, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    windows()


def windows() -> None:
    """Writes the list for Windows."""
    python = WINDOWS_PYTHON.rpartition(".")[0]
    base = closure(python, [*BASE, "pywin32-ctypes==0.2.3"], WINDOWS)
    packages = {
        name: {
            "version": version,
            "group": "base" if name in base else "screen",
            "files": {python: chosen(name, version, python, windows=True)},
        }
        for name, version in sorted({**closure(python, [*SCREEN], WINDOWS), **base}.items())
    }
    lock = {"python": WINDOWS_PYTHON, "pythons": [python], "packages": packages, "torch_cpu": {}}
    text = json.dumps(lock, indent=1, sort_keys=True) + "\n"
    (HERE / "windows" / "lock.json").write_text(text, encoding="utf-8")


def requirements() -> list[str]:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["dependencies"])


def closure(python: str, wanted: list[str], platform: str = PLATFORM) -> dict[str, str]:
    """Names, normalised, and versions of ``wanted`` with all that they need, as the constraints pin them."""
    command = ["uv", "pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", python]
    command += ["--python-platform", platform, "-c", str(TOP / "constraints.txt"), "-"]
    done = subprocess.run(command, input="\n".join(wanted), text=True, capture_output=True, check=True)
    pairs = (line.split("==") for line in done.stdout.splitlines() if "==" in line)
    return {name.strip(): version.split(";")[0].strip() for name, version in pairs}


def chosen(name: str, version: str, python: str, *, windows: bool = False) -> dict[str, Any]:
    """The best file of the index for one Python on x86-64: a wheel, or else the source archive."""
    ranked = [
        (rank(file["filename"], name, version, python, windows=windows), file)
        for file in index(name)
        if not file["yanked"]
    ]
    best = min((pair for pair in ranked if pair[0] is not None), key=lambda pair: pair[0], default=None)
    if best is None:
        system = "Windows" if windows else "Linux"
        raise SystemExit(f"{name} {version} has no file for Python {python} on {system} x86-64")
    return entry(best[1])


@functools.cache
def index(name: str) -> list[dict[str, Any]]:
    """All files that the index has of a package."""
    request = urllib.request.Request(
        f"{INDEX}{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return list(json.load(answer)["files"])


def entry(file: dict[str, Any]) -> dict[str, Any]:
    return {
        "file": file["filename"],
        "sha256": file["hashes"]["sha256"],
        "size": file["size"],
        "url": file["url"],
    }


def rank(
    filename: str, name: str, version: str, python: str, *, windows: bool = False
) -> tuple[int, int] | None:
    """How well a file suits, less is better; None where it does not."""
    if filename.endswith(".tar.gz"):
        stem = filename.removesuffix(".tar.gz").lower().replace("_", "-").replace(".", "-")
        return (9, 0) if stem == f"{name}-{version}".replace(".", "-") else None
    if not filename.endswith(".whl"):
        return None
    parts = filename.removesuffix(".whl").split("-")
    distribution, found, tags, abi, platform = parts[0], parts[1], parts[-3], parts[-2], parts[-1]
    if re.sub(r"[-_.]+", "-", distribution).lower() != name or found != version:
        return None
    cpython = "cp" + python.replace(".", "")
    abi3 = re.search(r"cp3(\d+)", tags)
    if tags == cpython and abi == cpython:
        kind = 0
    elif abi == "abi3" and abi3 is not None and int(abi3[1]) <= int(python.split(".")[1]):
        kind = 1
    elif abi == "none" and (tags == cpython or "py3" in tags.split(".")):
        kind = 2
    else:
        return None
    if platform == "any":
        return (kind, 0)
    if windows:
        return (kind, 0) if platform == "win_amd64" else None
    glibc = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_x86_64", platform)]
    glibc += [17] * platform.count("manylinux2014_x86_64") + [5] * platform.count("manylinux1_x86_64")
    usable = [minor for minor in glibc if minor <= GLIBC]
    return (kind, -max(usable)) if usable else None


def tools() -> dict[str, Any]:
    """What the packages carry: uv for Linux and for Windows, of the version that the constraints pin."""
    pins = (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines()
    version = next(line.removeprefix("uv==") for line in pins if line.startswith("uv=="))
    files = {file["filename"]: file for file in index("uv")}
    names = {
        "uv-linux": f"uv-{version}-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "uv-windows": f"uv-{version}-py3-none-win_amd64.whl",
    }
    return {tool: entry(files[name]) for tool, name in names.items()}


def torch_cpu() -> dict[str, Any]:
    entries = {}
    for python, (size, digest) in TORCH_CPU.items():
        tag = "cp" + python.replace(".", "")
        file = f"torch-2.13.0+cpu-{tag}-{tag}-manylinux_2_28_x86_64.whl"
        url = TORCH_CPU_URL + urllib.parse.quote(file)
        entries[python] = {"file": file, "sha256": digest, "size": size, "url": url}
    return entries


if __name__ == "__main__":
    main()
