"""Temporary folders that say whose they are, so that what a killed process left can be recognised."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from core.door import alive
from core.errors import DiskError
from core.paths import words

MARK = "idlebloom-temporary-"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A private folder for as long as the block runs. Raises ``DiskError``."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{MARK}{os.getpid()}-"))
    except OSError as error:
        raise DiskError(
            f"no temporary folder can be made: {words(error)}", "Set TMPDIR to a folder with space."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Removes the folders, and the sockets, of processes that were killed together with all their own."""
    from core.swarm import daemon

    top = Path(tempfile.gettempdir())
    daemon.sweep(top)
    for folder in top.glob(f"{MARK}*"):
        owner = re.fullmatch(rf"{MARK}(\d+)-.*", folder.name)
        if owner and not alive(int(owner[1])):
            shutil.rmtree(folder, ignore_errors=True)
