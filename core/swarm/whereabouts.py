"""Where this user's node or meeting point can be found, in a file for commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core import json_file
from core.errors import DiskError
from core.swarm.p2p import HivemindPeer
from core.swarm.reach import Access

NAME = "network.json"


@dataclass(frozen=True)
class Whereabouts:
    addresses: tuple[str, ...]
    access: Access
    private: bool
    """Whether it takes part in a private swarm."""
    behind: float | None = None
    """Seconds that this PC's clock is behind its meeting points'; ``None``: nobody told."""


def keep(peer: HivemindPeer, runtime: Path, *, private: bool) -> Callable[[], None]:
    """Writes it now and whenever it changes; call the result to remove it."""
    file = runtime / NAME

    def write() -> None:
        try:
            json_file.write(
                file,
                {
                    "pid": os.getpid(),
                    "addresses": list(peer.addresses),
                    "access": str(peer.access),
                    "private": private,
                    "behind": peer.behind,
                },
            )
        except DiskError:  # asking about it then finds nothing, which is said
            file.unlink(missing_ok=True)

    peer.watchers.append(write)
    write()

    def remove() -> None:
        peer.watchers.remove(write)
        file.unlink(missing_ok=True)

    return remove


def find(runtime: Path) -> Whereabouts | None:
    """Of what runs now."""
    try:
        values = json_file.read(runtime / NAME)
        os.kill(int(values["pid"]), 0)
        behind = values.get("behind")
        return Whereabouts(
            tuple(values["addresses"]),
            Access(values["access"]),
            bool(values["private"]),
            None if behind is None else float(behind),
        )
    except (DiskError, OSError, KeyError, TypeError, ValueError):
        return None
