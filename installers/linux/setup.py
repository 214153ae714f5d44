"""Builds Idlebloom's environment of one user, and goes on where an interrupted build stopped.

    setup.py talk|window|headless|node [--json]

Files are fetched one by one with resumption, each must have the size and SHA-256 that ``lock.json`` of this
release lists, and uv installs them without a network. The environment is ``~/.local/share/idlebloom/env``.
Nothing but Python's standard library is used here.

With ``--json`` it prints lines ``{"phase", "what", "done_bytes", "total_bytes", "seconds_left"}`` and at
an error ``{"error"}``; else a progress bar. Exit code 0: it is ready; 1: the error says what to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from fetching import fetch_all, part_of, size_of
from installing import install, missing_files
from release import (
    AGAIN,
    PARTS,
    File,
    Place,
    Release,
    Say,
    SetupError,
    disk_full,
    fingerprint,
    python_version,
    size,
    wants_cuda,
)

SPARE = 200 << 20
"""Bytes of disk to leave free."""
UNPACKED = 2.6
"""Bytes on disk of an installed file, its download included, for each byte of it: measured 2.4."""


def is_ready(group: str, release: Release, place: Place) -> bool:
    """Whether the environment has all of ``group``: built for it, or for more."""
    return place.python.exists() and any(
        stamped(more, release, place) for more, parts in PARTS.items() if parts >= PARTS[group]
    )


def stamped(group: str, release: Release, place: Place) -> bool:
    with contextlib.suppress(OSError):
        return place.stamp(group).read_text() == mark(group, release, place)
    return False


def mark(group: str, release: Release, place: Place) -> str:
    return fingerprint(release.files(group, python_version(), wants_cuda(place)), release.app)


def set_up(group: str, release: Release, place: Place, say: Say) -> None:
    """Returns when the environment has ``group``. Raises ``SetupError``; what was fetched stays."""
    if is_ready(group, release, place):
        return
    place.make()
    with alone(place, say):
        if is_ready(group, release, place):  # another start of ours did it meanwhile
            return
        cuda = wants_cuda(place)
        missing = missing_files(group, release, place)
        check_space(place, missing)
        fetch_all(missing, place, say)
        install(missing, release, place, say)
        if cuda and "cuda" in PARTS[group]:
            (place.root / "cuda").touch()
        place.stamp(group).write_text(mark(group, release, place))
        for file in release.files(group, python_version(), cuda):
            (place.wheels / file.file).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(place: Place, say: Say) -> Iterator[None]:
    """One build a user at a time; a second one waits for the first."""
    descriptor = os.open(place.root / "setup.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            take(descriptor, wait=False)
        except (BlockingIOError, PermissionError):
            say({"phase": "waiting", "what": "another start that already fetches"})
            take(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def take(descriptor: int, *, wait: bool) -> None:
    """Raises ``BlockingIOError``, on Windows ``PermissionError``, where another has it."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return
    import msvcrt

    while True:  # its own waiting gives up after ten seconds
        with contextlib.suppress(PermissionError) if wait else contextlib.nullcontext():
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return
        time.sleep(0.5)


def check_space(place: Place, files: Sequence[File]) -> None:
    there = sum(size_of(place.wheels / file.file) + size_of(part_of(place, file)) for file in files)
    need = int(UNPACKED * sum(file.size for file in files)) - there + SPARE
    free = shutil.disk_usage(place.root).free
    if free < need:
        raise SetupError(
            f"{place.root} needs {size(need)} of free space and has {size(free)}. "
            f"Free {size(need - free)} there, then start Idlebloom again: it goes on where it stopped."
        )


# In words


def in_words(error: SetupError | OSError) -> str:
    if isinstance(error, SetupError):
        return str(error)
    if disk_full(error):
        return f"the disk of {Place.of_user().root} is full. Free some space there. {AGAIN}"
    return f"{error.filename or Place.of_user().root}: {error.strerror or error}. Mend that. {AGAIN}"


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
    group, plain = next((a for a in arguments if a in PARTS), "node"), "--json" not in arguments
    say = as_bar if plain else as_json
    try:
        release, place = Release.read(HERE), Place.of_user()
        if plain and not is_ready(group, release, place):
            total = size(sum(file.size for file in missing_files(group, release, place)))
            print(f"Idlebloom's first start fetches {total} into {place.root}", file=sys.stderr)
        set_up(group, release, place, say)
    except (SetupError, OSError) as error:
        if plain:
            print(f"\nidlebloom: {in_words(error)}", file=sys.stderr)
        else:
            as_json({"error": in_words(error)})
        return 1
    except KeyboardInterrupt:
        return 130
    if plain and sys.stderr.isatty():
        print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
