"""Builds Idlebloom's environment of one user, and goes on where an interrupted build stopped.

    setup.py window|node [--json]

*window* is what the tray needs; *node* is all. Files are fetched one by one with resumption, each must have
the size and SHA-256 that ``lock.json`` of this release lists, and uv installs them without a network. The
environment is ``~/.local/share/idlebloom/env``. Nothing but Python's standard library is used here.

With ``--json`` it prints lines ``{"phase", "what", "done_bytes", "total_bytes", "seconds_left"}`` and at
an error ``{"error"}``; else a progress bar. Exit code 0: it is ready; 1: the error says what to do.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHUNK = 1 << 20
TRIES = 5
SPARE = 200 << 20
"""Bytes of disk to leave free."""
UNPACKED = 2.6
"""Bytes on disk of an installed file, its download included, for each byte of it: measured 2.4."""
AGAIN = "Start Idlebloom again: it goes on where it stopped."
GROUPS = ("window", "node")
Say = Callable[[dict[str, object]], None]


class SetupError(Exception):
    """What is wrong and what to do, in one line."""


@dataclass(frozen=True)
class File:
    """One file of the lock."""

    name: str
    file: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Release:
    """What the package carries: the lock, the program as a wheel, uv."""

    folder: Path
    lock: dict[str, object]
    app: File

    @classmethod
    def read(cls, folder: Path) -> Release:
        try:
            lock = json.loads((folder / "lock.json").read_text(encoding="utf-8"))
            app = File(**json.loads((folder / "app.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise SetupError(
                f"the installation in {folder} is damaged ({error}). Install it again."
            ) from error
        return cls(folder, lock, app)

    def files(self, group: str, python: str, cuda: bool) -> list[File]:
        """What ``group`` needs, in the order to fetch. Smaller ones first: what can fail fails early."""
        if python not in self.lock["pythons"]:
            known = ", ".join(self.lock["pythons"])
            raise SetupError(
                f"Python {python} is not supported yet; this release knows {known}. Install one of them."
            )
        cpu = None if cuda else self.lock["torch_cpu"].get(python)
        groups = {"window"} if group == "window" else {"window", "node", "cuda"}
        found = []
        for name, package in self.lock["packages"].items():
            if package["group"] not in groups or python not in package["files"]:
                continue
            if cpu is not None and package["group"] == "cuda":
                continue
            found.append(File(name=name, **package["files"][python]))
        if cpu is not None and group == "node":
            found.append(File(name="torch", **cpu))
        return sorted(found, key=lambda file: file.size)


@dataclass(frozen=True)
class Place:
    """Where one user's environment lies."""

    root: Path

    @classmethod
    def of_user(cls) -> Place:
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return cls(Path(data) / "idlebloom")

    @property
    def env(self) -> Path:
        return self.root / "env"

    @property
    def python(self) -> Path:
        return self.env / "bin" / "python"

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    def stamp(self, group: str) -> Path:
        return self.root / f"{group}.ready"

    def make(self) -> None:
        try:
            self.wheels.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SetupError(
                f"cannot write to {self.root}: {error.strerror}. Mend that, then start again."
            ) from error


def fingerprint(files: Sequence[File], app: File) -> str:
    """What an environment was made of; another release's differs."""
    text = "\n".join(f"{file.file} {file.sha256}" for file in [*files, app])
    return hashlib.sha256(
        f"{text}\n{python_version()} {os.path.realpath(sys.executable)}".encode()
    ).hexdigest()


def python_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or Path("/usr/lib/wsl/lib/libnvidia-ml.so.1").exists()


def is_ready(group: str, release: Release, place: Place) -> bool:
    files = release.files(group, python_version(), wants_cuda(place))
    mark = fingerprint(files, release.app)
    with contextlib.suppress(OSError):
        return place.stamp(group).read_text() == mark and place.python.exists()
    return False


def wants_cuda(place: Place) -> bool:
    """By the driver; a build for CUDA is kept when the driver has gone for a while (an update of it, say)."""
    return has_nvidia_driver() or (place.root / "cuda").exists()


def set_up(group: str, release: Release, place: Place, say: Say) -> None:
    """Returns when the environment has ``group``. Raises ``SetupError``; what was fetched stays."""
    if is_ready(group, release, place):
        return
    place.make()
    with alone(place, say):
        if is_ready(group, release, place):  # another start of ours did it meanwhile
            return
        cuda = wants_cuda(place)
        files = release.files(group, python_version(), cuda)
        missing = missing_files(group, release, place)
        check_space(place, missing)
        fetch_all(missing, place, say)
        install(missing, release, place, say)
        if cuda and group == "node":
            (place.root / "cuda").touch()
        place.stamp(group).write_text(fingerprint(files, release.app))
        if group == "node":
            place.stamp("window").write_text(
                fingerprint(release.files("window", python_version(), cuda), release.app)
            )
        for file in files:
            (place.wheels / file.file).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(place: Place, say: Say) -> Iterator[None]:
    """One build a user at a time; a second one waits for the first."""
    descriptor = os.open(place.root / "setup.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say({"phase": "waiting", "what": "another start that already fetches"})
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def missing_files(group: str, release: Release, place: Place) -> list[File]:
    """What of ``group`` is not installed yet."""
    have = installed(place) if works(place.python) else set()
    files = release.files(group, python_version(), wants_cuda(place))
    return [file for file in files if (normal(file.name), version_of(file)) not in have]


def installed(place: Place) -> set[tuple[str, str]]:
    """Names, normalised, and versions in the environment whose installation was completed."""
    found = set()
    for record in place.env.glob("lib/python3*/site-packages/*.dist-info/RECORD"):
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


def check_space(place: Place, files: Sequence[File]) -> None:
    there = sum(size_of(place.wheels / file.file) + size_of(part_of(place, file)) for file in files)
    need = int(UNPACKED * sum(file.size for file in files)) - there + SPARE
    free = shutil.disk_usage(place.root).free
    if free < need:
        raise SetupError(
            f"{place.root} needs {size(need)} of free space and has {size(free)}. "
            f"Free {size(need - free)} there, then start Idlebloom again: it goes on where it stopped."
        )


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def part_of(place: Place, file: File) -> Path:
    return place.wheels / f"{file.file}.part"


# Fetching


class Progress:
    """Bytes done of all, reported at most five times a second."""

    def __init__(self, total: int, say: Say) -> None:
        self.done, self.total, self._say = 0, total, say
        self._begun, self._fetched, self._told = time.monotonic(), 0, 0.0

    def add(self, count: int, what: str, fetched: bool = True) -> None:
        self.done += count
        self._fetched += count if fetched else 0
        now = time.monotonic()
        if now - self._told < 0.2 and self.done < self.total:
            return
        self._told = now
        rate = self._fetched / max(now - self._begun, 0.001)
        left = (self.total - self.done) / rate if rate else None
        self._say(
            {
                "phase": "fetching",
                "what": what,
                "done_bytes": self.done,
                "total_bytes": self.total,
                "seconds_left": None if left is None else round(left),
            }
        )


def fetch_all(files: Sequence[File], place: Place, say: Say) -> None:
    progress = Progress(sum(file.size for file in files), say)
    for file in files:
        target = place.wheels / file.file
        if target.exists():  # it was verified when it got this name; uv verifies it again
            progress.add(file.size, file.name, fetched=False)
            continue
        carried = carried_file(file)
        if carried is not None:
            verify(carried, file)
            shutil.copyfile(carried, target)
            progress.add(file.size, file.name)
            continue
        fetch(file, place, progress)


def carried_file(file: File) -> Path | None:
    """Folders with files that need no network: for PCs without one, and for tests."""
    for folder in os.environ.get("IDLEBLOOM_WHEELS", "").split(os.pathsep):
        if folder and (Path(folder) / file.file).is_file():
            return Path(folder) / file.file
    return None


def fetch(file: File, place: Place, progress: Progress) -> None:
    """One file, resumed, verified and named. Twice damaged is an error: then somebody changed it."""
    part = part_of(place, file)
    start = progress.done
    for attempt in (1, 2):
        download(file, part, progress)
        try:
            verify(part, file)
        except SetupError:
            part.unlink()
            progress.done = start
            if attempt == 2:
                raise
            continue
        part.replace(place.wheels / file.file)
        return


def download(file: File, part: Path, progress: Progress) -> None:
    failures = 0
    progress.add(size_of(part), file.name, fetched=False)
    while size_of(part) < file.size:
        before = size_of(part)
        try:
            _download_once(file, part, progress)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 404, 410):
                raise SetupError(
                    f"{file.file} cannot be had any more ({error.code} from {host(file)}). "
                    "Install a newer release of Idlebloom."
                ) from error
            failures = _failed(failures, file, f"answered {error.code}", error)
        except (urllib.error.URLError, TimeoutError, ConnectionError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SetupError(
                    f"the disk of {part.parent} is full. Free some space there. {AGAIN}"
                ) from error
            failures = _failed(failures, file, str(getattr(error, "reason", error)), error)
        if size_of(part) > before:
            failures = 0


def _failed(failures: int, file: File, why: str, error: Exception) -> int:
    """Counts failures without any byte in between; the last one is said."""
    if failures + 1 >= TRIES:
        raise SetupError(f"{host(file)} cannot be reached ({why}). Check the network. {AGAIN}") from error
    time.sleep(float(os.environ.get("IDLEBLOOM_RETRY_SECONDS", "1")) * 2**failures)
    return failures + 1


def host(file: File) -> str:
    return file.url.split("/")[2] if "//" in file.url else "this package"


def _download_once(file: File, part: Path, progress: Progress) -> None:
    have = size_of(part)
    request = urllib.request.Request(file.url, headers={"User-Agent": "idlebloom-setup"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=30) as answer:
        if have and answer.status != 206:  # it sends all of it again
            progress.done -= have
            have = 0
        with part.open("ab" if have else "wb") as target:
            while have < file.size:
                data = answer.read(min(CHUNK, file.size - have))
                if not data:
                    raise ConnectionError("the connection was cut")
                target.write(data)
                have += len(data)
                progress.add(len(data), file.name)


def verify(path: Path, file: File) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while data := source.read(CHUNK):
            digest.update(data)
    if digest.hexdigest() != file.sha256:
        raise SetupError(
            f"{file.file} is not the file that this release was made with: it was changed on its way, or "
            f"at {host(file)}. It was not used. Try another network, or tell Idlebloom's developers."
        )


# Installing


def install(files: Sequence[File], release: Release, place: Place, say: Say) -> None:
    """With uv, without a network; uv checks each hash once more. What is installed already stays."""
    say({"phase": "installing", "what": f"Idlebloom and {len(files)} packages that it uses"})
    verify(release.folder / release.app.file, release.app)
    if not works(place.python):
        shutil.rmtree(place.env, ignore_errors=True)
        uv(release, ["venv", "-q", "--python", sys.executable, str(place.env)])
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


def works(python: Path) -> bool:
    """After an update of the system's Python an environment may point to nothing."""
    with contextlib.suppress(OSError):
        return subprocess.run([python, "-I", "-c", "pass"], capture_output=True, check=False).returncode == 0
    return False


def uv(release: Release, arguments: Sequence[str]) -> None:
    environment = {**os.environ, "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    environment["UV_CACHE_DIR"] = str(Place.of_user().root / "uv-cache")
    done = subprocess.run(
        [release.folder / "uv", *arguments], env=environment, capture_output=True, text=True, check=False
    )
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


# In words


def size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def as_json(fields: dict[str, object]) -> None:
    print(json.dumps(fields), flush=True)


def as_bar(fields: dict[str, object]) -> None:
    """One line that is written over, on a terminal; a line a phase elsewhere."""
    tty = sys.stderr.isatty()
    if fields["phase"] == "fetching":
        if not tty and fields["done_bytes"] != fields["total_bytes"]:
            return
        done, total = float(str(fields["done_bytes"])), float(str(fields["total_bytes"]))
        filled = int(30 * done / total) if total else 30
        left = fields["seconds_left"]
        words = f"  [{'█' * filled}{' ' * (30 - filled)}] {size(done)} of {size(total)}"
        words += "" if left is None else f", {left} s left"
    else:
        words = f"  {fields['phase']} {fields['what']}"
    print(f"\r{words:<79}" if tty else words, end="" if tty else "\n", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    group, plain = next((a for a in arguments if a in GROUPS), "node"), "--json" not in arguments
    say = as_bar if plain else as_json
    try:
        release, place = Release.read(HERE), Place.of_user()
        if plain and not is_ready(group, release, place):
            total = size(sum(file.size for file in missing_files(group, release, place)))
            print(f"Idlebloom's first start fetches {total} into {place.root}", file=sys.stderr)
        set_up(group, release, place, say)
    except SetupError as error:
        if plain:
            print(f"\nidlebloom: {error}", file=sys.stderr)
        else:
            as_json({"error": str(error)})
        return 1
    except KeyboardInterrupt:
        return 130
    if plain and sys.stderr.isatty():
        print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
