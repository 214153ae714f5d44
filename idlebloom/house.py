"""Composes a node with its door: what ``demo`` and ``node`` both run until they are told to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.door import RunningNode
from core.node.loop import Loop
from core.node.node import Node
from core.node.reading import NodeReader
from core.preferences import Preferences
from core.secrets import Secret, Secrets
from core.settings import Change
from core.terms import PeerId

if TYPE_CHECKING:
    from webchat.door import Door
    from webchat.unplug import Demo
    from webchat.ways import Ways


@contextlib.asynccontextmanager
async def door(
    node: Node,
    port: int,
    door_file: Path,
    preferences: Preferences | None = None,
    *,
    history_file: Path,
    secrets: Secrets | None = None,
    donor: Loop | None = None,
    only_here: bool = False,
    demo: Demo | None = None,
    ways: Ways | None = None,
    own_donors: Callable[[], frozenset[PeerId]] = frozenset,
    token: str = "",
) -> AsyncIterator[RunningNode]:
    """Serves the pages and APIs of ``node`` for as long as the block runs. ``donor``: what gives.
    ``only_here``: its whole swarm runs on this PC. ``token``: of the owner's programs, made here if none is
    given."""
    from webchat.app import create_app
    from webchat.door import Door
    from webchat.history import History
    from webchat.serve import Server

    entrance = Door(token=token) if token else Door()
    if preferences is not None and secrets is not None:
        entrance.read_key = partial(secrets.get, Secret.API_KEY)
        entrance.api_key_required = preferences.settings.api_key_required
        preferences.listen(Lock(entrance))
    history = History(history_file)
    reader = NodeReader(node, preferences, donor)
    reader.own = own_donors
    app = create_app(reader, entrance, history, only_here=only_here, demo=demo, ways=ways)
    server = Server(app, port=port)
    server.start()
    settle_memory()
    running = RunningNode(server.url, os.getpid(), entrance.token)
    try:
        running.write(door_file)
        yield running
    finally:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(app.extensions["answers"].close)
        await asyncio.to_thread(door_file.unlink, missing_ok=True)
        history.close()


def settle_memory() -> None:
    """What is there after the start stays to the end. Taken out of what Python looks through for rubbish, it
    no longer hides how much a few hundred pages have left behind: that was seen only after tens of MB."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Lock:
    """Has the door ask programs for the key as the setting says, from the next request on."""

    door: Door

    def verify(self, change: Change) -> None:
        """Either will do."""

    def apply(self, change: Change) -> bool:
        self.door.api_key_required = change.after.api_key_required
        return True


def told_to_end() -> asyncio.Event:
    """Set by Ctrl-C, SIGTERM or a closed terminal."""
    event = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def end_with_input(end: asyncio.Event) -> None:
    """The owner of this process holds its standard input; when that ends, the owner has gone."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(end.set)

    threading.Thread(target=watch, name="owner", daemon=True).start()
