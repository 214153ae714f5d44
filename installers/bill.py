"""The bill of materials of a release, in CycloneDX 1.6: all that a first start may fetch, and what package,
setup and root file system carry, with versions and hashes."""

from __future__ import annotations

import time
from typing import Any


def materials(
    lock: dict[str, Any],
    windows: dict[str, Any],
    debian: list[dict[str, str]],
    version: str,
    moment: int,
) -> dict[str, Any]:
    """From the locks of Linux and of Windows' tray, and Debian's packages in the root file system."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)),
            "component": {
                "type": "application",
                "bom-ref": "idlebloom",
                "name": "idlebloom",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": [*_carried(lock), *_fetched(lock, windows), *_system(debian)],
    }


def _carried(lock: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "type": "application",
            "bom-ref": tool,
            "name": "uv",
            "version": uv["file"].split("-")[1],
            "hashes": _hashes([uv]),
            "licenses": [{"expression": "Apache-2.0 OR MIT"}],
            "properties": _group("carried"),
        }
        for tool, uv in sorted(lock["tools"].items())
    ]


def _fetched(lock: dict[str, Any], windows: dict[str, Any]) -> list[dict[str, Any]]:
    tray = windows["packages"]
    named = {**tray, **lock["packages"]}
    found = []
    for name, package in sorted(named.items()):
        files = [
            file
            for place in (tray, lock["packages"])
            if name in place
            for file in place[name]["files"].values()
        ]
        found.append(_library("pypi", name, package["version"], package["group"], files))
    cpu = list(lock["torch_cpu"].values())
    return [*found, _library("pypi", "torch", cpu[0]["file"].split("-")[1], "cpu", cpu)]


def _system(debian: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [_library("deb/debian", one["name"], one["version"], "root file system", []) for one in debian]


def _library(kind: str, name: str, version: str, group: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    address = f"pkg:{kind}/{name}@{version}"
    made = {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}
    return {**made, **({"hashes": _hashes(files)} if files else {}), "properties": _group(group)}


def _hashes(files: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest} for digest in sorted({file["sha256"] for file in files})]


def _group(name: str) -> list[dict[str, str]]:
    return [{"name": "idlebloom:group", "value": name}]
