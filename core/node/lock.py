"""One node a user: a lock that ends with the process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from core.door import find
from core.errors import DiskError, NodeError
from core.paths import Paths, words


@contextlib.contextmanager
def only_node(paths: Paths) -> Iterator[None]:
    """Holds the lock while the block runs. Raises ``NodeError`` with the running node's address."""
    try:
        descriptor = os.open(paths.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DiskError(f"cannot open {paths.lock_file}: {words(error)}", "Check the folder.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = find(paths.door_file)
            where = f" at {running.url}" if running is not None else ""
            raise NodeError(f"a node is already running{where}", "Use that one, or end it first.") from None
        yield
    finally:
        os.close(descriptor)
