"""Puts fetched files into a user's environment, with uv and without a network."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fetching import verify
from release import AGAIN, File, Place, Release, Say, SetupError, python_version, wants_cuda


def missing_files(group: str, release: Release, place: Place) -> list[File]:
    """What of ``group`` is not installed yet."""
    have = installed(place) if works(place.python) else set()
    files = release.files(group, python_version(), wants_cuda(place))
    return [file for file in files if (normal(file.name), version_of(file)) not in have]


def installed(place: Place) -> set[tuple[str, str]]:
    """Names, normalised, and versions in the environment whose installation was completed."""
    found = set()
    for record in place.env.glob(f"{place.packages}/*.dist-info/RECORD"):
        name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
        found.add((normal(name), version))
    return found


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def version_of(file: File) -> str:
    stem = file.file.removesuffix(".tar.gz")
    if stem != file.file:
        return stem.rpartition("-")[2]
    return file.file.split("-")[1]


def install(files: Sequence[File], release: Release, place: Place, say: Say) -> None:
    """With uv, without a network; uv checks each hash once more. What is installed already stays."""
    say({"phase": "installing", "what": f"Idlebloom and {len(files)} packages that it uses"})
    verify(release.folder / release.app.file, release.app)
    if not works(place.python):
        shutil.rmtree(place.env, ignore_errors=True)
        uv(release, ["venv", "-q", "--python", str(base_python()), str(place.env)])
    wheels = [file for file in files if file.file.endswith(".whl")]
    archives = [file for file in files if not file.file.endswith(".whl")]
    common = ["pip", "install", "-q", "--python", str(place.python), "--offline", "--no-index", "--no-deps"]
    common += ["--link-mode", "copy", "--find-links", str(place.wheels)]
    for group, more in ((wheels, []), (archives, ["--no-build-isolation"])):
        if group:
            listed = place.wheels / "requirements.txt"
            listed.write_text(
                "".join(f"{file.name}=={version_of(file)} --hash=sha256:{file.sha256}\n" for file in group)
            )
            uv(release, [*common, *more, "--require-hashes", "-r", str(listed)])
            listed.unlink()
    uv(release, [*common, "--reinstall", str(release.folder / release.app.file)])


def base_python() -> Path:
    """The Python that runs this; on Windows its form with a console, where this is run without one."""
    running = Path(sys.executable)
    return running.with_name("python.exe") if os.name == "nt" else running


def works(python: Path) -> bool:
    """After an update of the system's Python an environment may point to nothing."""
    with contextlib.suppress(OSError):
        return quiet([python, "-I", "-c", "pass"]).returncode == 0
    return False


def quiet(
    command: Sequence[str | Path], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Its words kept; on Windows no console opens for it."""
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    return subprocess.run(
        command,
        env=environment,
        creationflags=hidden,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def uv(release: Release, arguments: Sequence[str]) -> None:
    environment = {**os.environ, "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    environment["UV_CACHE_DIR"] = str(Place.of_user().root / "uv-cache")
    done = quiet([release.folder / "uv", *arguments], environment)
    shutil.rmtree(environment["UV_CACHE_DIR"], ignore_errors=True)
    if done.returncode == 0:
        return
    if "No space left" in done.stderr:
        raise SetupError(f"the disk is full. Free some space. {AGAIN}")
    if "Hash mismatch" in done.stderr:
        raise SetupError(
            "a fetched file was changed on the disk. Remove the folder wheels beside the "
            f"environment in {Place.of_user().root}. {AGAIN}"
        )
    raise SetupError(f"uv could not install: {' '.join(done.stderr.split())[-400:]}")
