"""What this PC is: its memory, disk and ports, measured once."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    cores: int
    memory_bytes: int
    available_bytes: int


def read_machine() -> Machine:
    import psutil

    memory = psutil.virtual_memory()
    return Machine(os.cpu_count() or 1, memory.total, memory.available)


def memory_of(pid: int) -> int:
    """Bytes of system memory that a process and its children take; 0 for one that is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def free_disk(folder: Path) -> int:
    """Free bytes for this user where the folder lies, or will lie once it is made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections still fade away is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
