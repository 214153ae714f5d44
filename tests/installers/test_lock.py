"""What a package fetches at its first start is what is tested here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]


def lock() -> dict[str, Any]:
    return json.loads((TOP / "installers" / "lock.json").read_text(encoding="utf-8"))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_versions_are_the_tested_ones() -> None:
    """Each package of the lock has the version that constraints.txt pins, where that pins it;
    ``python installers/lock.py`` brings it up to date."""
    lines = (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {normal(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    packages = lock()["packages"]
    assert {n: p["version"] for n, p in packages.items() if pins.get(n, p["version"]) != p["version"]} == {}
    assert lock()["tools"]["uv-linux"]["file"].startswith(f"uv-{pins['uv']}-")


def test_every_dependency_is_locked() -> None:
    """No requirement of the program is missing, for any Python that is supported."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {normal(re.split(r"[<>=;\[ ]", need)[0]) for need in project["dependencies"]}
    found = lock()
    for python in found["pythons"]:
        here = {name for name, package in found["packages"].items() if python in package["files"]}
        assert names - here == set()


def test_every_file_can_be_checked() -> None:
    """Each file has its size, its SHA-256 and an address that is encrypted."""
    found = lock()
    files = [file for package in found["packages"].values() for file in package["files"].values()]
    files += [*found["torch_cpu"].values(), *found["tools"].values()]
    assert [f for f in files if not re.fullmatch("[0-9a-f]{64}", f["sha256"]) or f["size"] <= 0] == []
    assert [f["file"] for f in files if not f["url"].startswith("https://")] == []
