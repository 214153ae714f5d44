"""Composes a node with its door: what ``demo`` and ``node`` both run until they are told to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.door import RunningNode
from core.handed import Held
from core.node.loop import Loop
from core.node.node import Node
from core.node.reading import NodeReader
from core.preferences import Preferences
from core.secrets import Secret, Vault
from core.settings import Change
from core.terms import PeerId

if TYPE_CHECKING:
    from webchat.door import Door
    from webchat.unplug import Demo
    from webchat.ways import Ways


@dataclass(frozen=True)
class Place:
    """Where a node's door is, and what lies beside it."""

    port: int
    door_file: Path
    history_file: Path
    token: str = field(default="", repr=False)
    """Of the owner's programs; made when the door opens if nobody chose one."""


@dataclass(frozen=True)
class Belongings:
    """What pages, APIs and programs of the owner read and change, beside the node itself."""

    preferences: Preferences
    secrets: Vault
    donor: Loop
    """What gives,"""
    peers: Callable[[], frozenset[PeerId]]
    """and whom it gives as."""
    ways: Ways


@contextlib.asynccontextmanager
async def door(
    node: Node, place: Place, own: Belongings | None = None, *, demo: Demo | None = None
) -> AsyncIterator[RunningNode]:
    """Serves the pages and APIs of ``node`` for as long as the block runs. A ``demo``'s swarm runs on this
    PC alone, and nothing of it is anybody's own."""
    from webchat.app import create_app
    from webchat.door import Door
    from webchat.history import History
    from webchat.serve import Server

    entrance = Door(token=place.token) if place.token else Door()
    history = History(place.history_file)
    if own is None:
        reader = NodeReader(node, None)
        app = create_app(reader, entrance, history, only_here=demo is not None, demo=demo)
    else:
        reader = NodeReader(node, own.preferences, own.donor)
        entrance.read_key = partial(own.secrets.get, Secret.API_KEY)
        entrance.api_key_required = own.preferences.settings.api_key_required
        own.preferences.listen(Lock(entrance))
        reader.own = own.peers
        held = own.secrets if isinstance(own.secrets, Held) else None
        app = create_app(reader, entrance, history, ways=own.ways, held=held)
    server = Server(app, port=place.port)
    server.start()
    settle_memory()
    running = RunningNode(server.url, os.getpid(), entrance.token)
    try:
        running.write(place.door_file)
        yield running
    finally:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(app.extensions["answers"].close)
        await asyncio.to_thread(place.door_file.unlink, missing_ok=True)
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
