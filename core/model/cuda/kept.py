"""What was found out about a device with effort, kept for the next start: compiled kernels, measured times.

A name holds all that the content depends on (the device, versions, sizes, sources), so that nothing kept ever
has to be judged old. What cannot be kept is made again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path

from core.errors import DiskError
from core.paths import make_folder

log = logging.getLogger(__name__)

MOST = 64
"""Files; the oldest go."""


class Kept:
    """Files in one folder, written whole and checked when read. ``folder`` ``None``: nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def read(self, name: str) -> bytes | None:
        if self.folder is None:
            return None
        try:
            data = (self.folder / name).read_bytes()
        except OSError:
            return None
        digest, content = data[:32], data[32:]
        return content if hashlib.sha256(content).digest() == digest else None

    def write(self, name: str, content: bytes) -> None:
        if self.folder is None:
            return
        draft = self.folder / f".{name}.{os.getpid()}"
        try:
            make_folder(self.folder)
            draft.write_bytes(hashlib.sha256(content).digest() + content)
            draft.replace(self.folder / name)
            self._prune()
        except (OSError, DiskError) as error:
            log.warning("%s cannot be kept: %s", name, error)
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _prune(self) -> None:
        assert self.folder is not None
        found = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in found[:-MOST]:
            path.unlink(missing_ok=True)


here = Kept()
"""This process's; its folder is set once, when it is known."""


def name_of(kind: str, *parts: object) -> str:
    """A file's name for what depends on ``parts``."""
    return f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"
