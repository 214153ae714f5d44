"""``idlebloom node``: the background node without the tray, a headless donor where ``donate`` says so."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.errors import SwarmError, TooLittle
from core.kinds import Addresses
from core.paths import Paths
from core.secrets import Secrets
from core.settings import Change, Donate, Settings
from core.terms import Because, Reason, State
from idlebloom import numbers

if TYPE_CHECKING:
    from core.node.node import Model, Node
    from core.node.placing import Place
    from core.preferences import Preferences
    from core.serving.worker import WorkerConfig

NAME = "node"
HELP = "the background node without the tray"
LOOK_AGAIN_SECONDS = 60.0
"""Until memory is looked at anew where nothing fitted."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=numbers.port, metavar="N", help="of the chat page (the setting: 7714)")
    parser.add_argument("--peers", type=_peers, metavar="ADDR,…", help="the swarm's meeting points")
    parser.add_argument("--owned", action="store_true", help="end when standard input does")


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.node.lock import only_node
    from core.preferences import Preferences
    from core.swarm.loop import new_event_loop
    from idlebloom.following import follow
    from idlebloom.visiting import model_of

    with only_node(paths.make()):
        preferences = follow(Preferences(paths.settings_file))
        if preferences.notice:
            print(f"idlebloom: {preferences.notice}", file=sys.stderr)
        model = model_of(preferences.settings)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(args, paths, preferences, model))
    return 0


async def _run(args: argparse.Namespace, paths: Paths, preferences: Preferences, model: Model) -> None:
    from core.node.node import Node
    from core.swarm.daemon import sweep
    from core.swarm.p2p import start_peer
    from idlebloom.house import door, told_to_end
    from idlebloom.launch import version

    settings = preferences.settings
    end = told_to_end()
    if args.owned:
        _end_with_input(end)
    sweep(paths.runtime)
    peers = settings.swarm if args.peers is None else args.peers
    host = _host(settings, peers)
    peer = await start_peer(
        identity=paths.state / "node.key", runtime=paths.runtime, initial_peers=peers, host=host
    )
    node = Node(peer, model, version())
    try:
        giver = Giver(node, paths, host)
        await giver.follow(settings)
        preferences.listen(giver)
        port = settings.port if args.port is None else args.port
        async with door(
            node,
            port,
            paths.door_file,
            preferences,
            history_file=paths.history_file,
            secrets=Secrets(paths.secrets_file),
        ) as running:
            print(
                json.dumps({"url": running.url, "pid": os.getpid()}) if args.json else running.url, flush=True
            )
            died, told = asyncio.ensure_future(peer.died()), asyncio.ensure_future(end.wait())
            await asyncio.wait({died, told}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                raise SwarmError("the network process p2pd ended", "Start the node again.")
    finally:
        await node.close()
        await peer.close()


def _host(settings: Settings, peers: Sequence[str]) -> str:
    """Other PCs can reach a node that is in their swarm or that gives; one that only tries things out
    stays on this PC."""
    return "0.0.0.0" if peers or settings.donate is not Donate.OFF else "127.0.0.1"


class Giver:
    """Gives as the setting ``donate`` says, now and when it changes."""

    def __init__(self, node: Node, paths: Paths, host: str) -> None:
        self._node, self._paths, self._host = node, paths, host
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._again: asyncio.TimerHandle | None = None

    def verify(self, change: Change) -> None:
        """Any value will do."""

    def apply(self, change: Change) -> bool:
        if "donate" in change:
            asyncio.run_coroutine_threadsafe(self.follow(change.after), self._loop)
        return set(change.names) <= {"donate", "api_key_required"}

    async def follow(self, settings: Settings) -> None:
        async with self._turn:
            if self._again is not None:
                self._again.cancel()
                self._again = None
            match settings.donate:
                case Donate.OFF:
                    await self._node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
                case Donate.WHEN_IDLE:
                    await self._node.stop_giving(State.WAITING, Because(Reason.NO_IDLE_SOURCE))
                case Donate.ALWAYS:
                    await self._give(settings)

    async def _give(self, settings: Settings) -> None:
        """Serves what fits; where nothing does, says so and looks again in a while."""
        if self._node.gives:
            return
        try:
            place = await self._place()
        except TooLittle as error:
            await self._node.stop_giving(State.WAITING, Because(Reason.NO_ROOM, {"why": str(error)}))
            self._again = self._loop.call_later(
                LOOK_AGAIN_SECONDS, lambda: self._loop.create_task(self.follow(settings))
            )
            return
        self._node.give(self._config(place), self._paths.state / "worker.log")

    async def _place(self) -> Place:
        from core.node.placing import fitting, place, whole
        from core.pc.machine import read_machine
        from core.serving.worker import fast_dtype
        from core.swarm.identity import load_identity

        able = fitting(self._node.model.config, fast_dtype(), read_machine().available_bytes)
        everything = whole(able)
        if everything is not None:
            return everything
        me = await asyncio.to_thread(load_identity, self._paths.state / "worker.key")
        try:
            records = await self._node.generator.records(fresh=True)
        except SwarmError:
            records = ()  # nobody to be seen: the first of the swarm begins anywhere
        return place(able, records, me.peer_id, time.time(), random.Random())

    def _config(self, place: Place) -> WorkerConfig:
        from core.serving.worker import WorkerConfig
        from idlebloom.launch import version

        return WorkerConfig(
            model=str(self._node.model.folder),
            span=(place.span.start, place.span.end),
            cache_tokens=place.cache_tokens,
            identity=str(self._paths.state / "worker.key"),
            runtime=str(self._paths.runtime),
            peers=self._node.peer.addresses,
            host=self._host,
            version=version(),
        )


def _end_with_input(end: asyncio.Event) -> None:
    """The owner of this node holds its standard input; when that ends, the owner has gone."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(end.set)

    threading.Thread(target=watch, name="owner", daemon=True).start()


def _peers(text: str) -> tuple[str, ...]:
    try:
        return Addresses().parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"peers must be {error}") from None
