"""What lies beside the packages of a release: checksums, their signature, and the bill of materials."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

INSTALLERS = Path(__file__).resolve().parents[2] / "installers"


@pytest.fixture
def made(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "idlebloom.deb", tmp_path / "idlebloom.whl"]
    for file in files:
        file.write_text(f"the bytes of {file.name}")
    return files


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A secret key without a password, and its public one."""
    secret, public = tmp_path / "keys" / "secret", tmp_path / "keys" / "public"
    secret.parent.mkdir()
    command = ["minisign", "-G", "-W", "-s", secret, "-p", public]
    subprocess.run(command, check=True, capture_output=True)
    return secret, public


def checked(folder: Path) -> bool:
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True, check=False
    )
    return done.returncode == 0


def verified(sums: Path, public: Path) -> str:
    """What minisign says of a good signature; nothing of a bad one."""
    command = ["minisign", "-V", "-p", public, "-m", sums]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


@pytest.mark.skipif(shutil.which("minisign") is None, reason="no minisign")
def test_a_release_is_signed(
    build: ModuleType, made: list[Path], keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of all files, signed with the release's name: a changed file fails the sums, changed sums the
    signature, and another's key signs for nobody."""
    secret, public = keys
    monkeypatch.setenv("IDLEBLOOM_SIGNING_KEY", str(secret))
    sums = build.seal(made)
    assert checked(sums.parent)
    assert f"Trusted comment: Idlebloom {build.version()}" in verified(sums, public)
    made[0].write_text("other bytes")
    assert not checked(sums.parent)
    sums.write_text(sums.read_text().replace("idlebloom.deb", "evil.deb"))
    assert verified(sums, public) == ""
    build.seal(made)
    other = public.with_name("other")
    command = ["minisign", "-G", "-W", "-s", other.with_suffix(".secret"), "-p", other]
    subprocess.run(command, check=True, capture_output=True)
    assert verified(sums, public) and not verified(sums, other)


@pytest.mark.skipif(shutil.which("minisign") is None, reason="no minisign")
def test_a_key_that_does_not_sign_ends_the_release(
    build: ModuleType, made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes an unsigned release for a signed one."""
    monkeypatch.setenv("IDLEBLOOM_SIGNING_KEY", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="was not signed"):
        build.seal(made)


def test_without_a_key_there_are_sums_alone(
    build: ModuleType, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a developer builds it."""
    monkeypatch.delenv("IDLEBLOOM_SIGNING_KEY", raising=False)
    sums = build.seal(made)
    assert checked(sums.parent) and not sums.with_name("SHA256SUMS.minisig").exists()


def test_the_bill_names_all_that_is_brought_along(build: ModuleType) -> None:
    """Each package of the locks with its version and hashes, both builds of PyTorch, uv, and Debian's."""
    from bill import materials

    locks: list[dict[str, Any]] = [
        json.loads((folder / "lock.json").read_text()) for folder in (INSTALLERS, INSTALLERS / "windows")
    ]
    found = materials(*locks, [{"name": "libc6", "version": "2.36-9"}], "1.2.3", 0)
    components = {one["bom-ref"]: one for one in found["components"]}
    assert len(components) == len(found["components"])
    assert found["metadata"]["component"]["version"] == "1.2.3"
    for lock in locks:
        for name, package in lock["packages"].items():
            stated = {one["content"] for one in components[f"pkg:pypi/{name}@{package['version']}"]["hashes"]}
            assert {file["sha256"] for file in package["files"].values()} <= stated
    cpu = {file["sha256"] for file in locks[0]["torch_cpu"].values()}
    assert {one["content"] for one in components["pkg:pypi/torch@2.13.0+cpu"]["hashes"]} == cpu
    assert "pkg:deb/debian/libc6@2.36-9" in components and components["uv-linux"]["licenses"]
