"""Fetches files one by one, resumed where they were cut off, each checked against the lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from release import AGAIN, File, Place, Say, SetupError, disk_full

CHUNK = 1 << 20
TRIES = 5


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
            if isinstance(error, OSError) and disk_full(error):
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


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def part_of(place: Place, file: File) -> Path:
    return place.wheels / f"{file.file}.part"
