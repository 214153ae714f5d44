"""``idlebloom node``: the background node without the tray, a headless donor where ``donate`` says so."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.errors import DiskError, IdlebloomError, SettingError, SwarmError, TooLittle
from core.kinds import Addresses
from core.paths import Paths
from core.secrets import Secrets
from core.settings import Change, Donate, Settings
from core.terms import Because, Reason, State
from idlebloom import numbers

if TYPE_CHECKING:
    from core.node.delivery import Delivery, Report
    from core.node.node import Node
    from core.node.placing import Means
    from core.node.supply import Supply
    from core.preferences import Preferences
    from core.serving.worker import WorkerConfig

NAME = "node"
HELP = "the background node without the tray"
LIVE = {"donate", "device", "quantization", "leave_vram_gb", "ram_gb", "disk_gb", "data_dir"}
"""Settings that change what is served, or whether;"""
AT_START = {"model", "swarm", "port"}
"""and those that take effect at the next start."""

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=numbers.port, metavar="N", help="of the chat page (the setting: 7714)")
    parser.add_argument("--peers", type=_peers, metavar="ADDR,…", help="the swarm's meeting points")
    parser.add_argument("--owned", action="store_true", help="end when standard input does")


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.node.lock import only_node
    from core.preferences import Preferences
    from core.swarm.loop import new_event_loop
    from idlebloom.following import follow

    with only_node(paths.make()):
        preferences = follow(Preferences(paths.settings_file))
        if preferences.notice:
            print(f"idlebloom: {preferences.notice}", file=sys.stderr)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(args, paths, preferences))
    return 0


async def _run(args: argparse.Namespace, paths: Paths, preferences: Preferences) -> None:
    from core.node.licences import Licences
    from core.node.node import Node
    from core.node.storage import Storage
    from core.swarm.daemon import sweep
    from core.swarm.p2p import start_peer
    from idlebloom.house import door, told_to_end
    from idlebloom.launch import version
    from idlebloom.visiting import model_of

    settings = preferences.settings
    end = told_to_end()
    storage = Storage.of(settings, paths)
    await asyncio.to_thread(storage.settle)
    model = await model_of(settings.model, settings, paths, quiet=args.json)
    if args.owned:
        _end_with_input(end)
    sweep(paths.runtime)
    peers = settings.swarm if args.peers is None else args.peers
    host = _host(settings, peers)
    peer = await start_peer(
        identity=paths.state / "node.key", runtime=paths.runtime, initial_peers=peers, host=host
    )
    node = Node(peer, model, version())
    node.licences = Licences(paths.licences_file)
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
    """Gives as the setting ``donate`` says, now and when it changes, with what the other settings allow."""

    def __init__(self, node: Node, paths: Paths, host: str) -> None:
        self._node, self._paths, self._host = node, paths, host
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()

    def verify(self, change: Change) -> None:
        """A folder for layers has to take what is in the one before."""
        from core.node.storage import Storage

        if "data_dir" in change:
            before, after = Storage.of(change.before, self._paths), Storage.of(change.after, self._paths)
            try:
                after.check_room(before.root)
            except DiskError as error:
                raise SettingError(error.message, error.advice) from error

    def apply(self, change: Change) -> bool:
        if set(change.names) & LIVE:
            asyncio.run_coroutine_threadsafe(self._changed(change), self._loop)
        return not set(change.names) & AT_START

    async def _changed(self, change: Change) -> None:
        if "data_dir" in change or "device" in change or "quantization" in change:
            async with self._turn:  # a worker of another form: the old one ends first
                await self._node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
        await self.follow(change.after)
        if self._node.gives and {"leave_vram_gb", "ram_gb", "disk_gb"} & set(change.names):
            await self._resize(change.after)

    async def follow(self, settings: Settings) -> None:
        async with self._turn:
            match settings.donate:
                case Donate.OFF:
                    await self._node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
                case Donate.WHEN_IDLE:
                    await self._node.stop_giving(State.WAITING, Because(Reason.NO_IDLE_SOURCE))
                case Donate.ALWAYS:
                    if not self._node.gives:
                        self._node.give(
                            lambda report: self._deliver(settings, report), self._paths.state / "worker.log"
                        )

    async def _deliver(self, settings: Settings, report: Report) -> AsyncIterator[Delivery]:
        supply, allowed = await self._supply(settings), await asyncio.to_thread(self._allowed, settings)
        async for delivery in supply.deliver(allowed.means, allowed.budget, allowed.logs, report):
            yield delivery

    async def _resize(self, settings: Settings) -> None:
        """More or less memory or disk, without a restart of the worker where some of its span stays."""
        from core.serving.supervisor import WorkerFailed

        supply, allowed = await self._supply(settings), await asyncio.to_thread(self._allowed, settings)
        await asyncio.to_thread(supply.storage.trim)
        serving = self._node.serving
        if serving is None:  # what is being loaded was decided under the old settings
            await self._node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
            await self.follow(settings)
            return
        try:
            span = await supply.resized(allowed.means, allowed.budget, serving, self._node.fetching)
            await self._node.resize(span, allowed.budget)
        except TooLittle:
            await self._node.stop_giving(State.OFF, Because(Reason.NO_CONSENT))
            await self.follow(settings)  # it says why nothing fits, and looks again in a while
        except (IdlebloomError, WorkerFailed) as error:
            log.warning("the span stays as it is: %s", error)

    def _allowed(self, settings: Settings) -> Allowed:
        from core.node.placing import cpu_budget, gpu_budget, log_budget, means
        from core.pc.gpu import read_gpus
        from core.pc.machine import memory_of, read_machine
        from core.serving.worker import fast_dtype

        gpus = read_gpus().found
        how = means(settings, len(gpus), fast_dtype())
        pid = self._node.worker_pid
        available = read_machine().available_bytes + (memory_of(pid) if pid else 0)
        number = int(how.device.partition(":")[2] or 0)
        if not how.on_gpu:
            budget = cpu_budget(settings, available)
        elif number < len(gpus):
            budget = gpu_budget(settings, gpus[number].memory_bytes, gpus[number].free_bytes)
        else:
            raise TooLittle(f"there is no {how.device}", "Set device to auto, or install NVIDIA's driver.")
        return Allowed(how, budget, log_budget(settings, how, budget, available))

    async def _supply(self, settings: Settings) -> Supply:
        from core.model.hub import Hub, Source
        from core.node.licences import Licences
        from core.node.models import chosen, hub_token
        from core.node.storage import Storage
        from core.node.supply import Supply
        from core.secrets import Secrets
        from core.swarm.identity import load_identity

        me = await asyncio.to_thread(load_identity, self._paths.state / "worker.key")
        what = chosen(settings.model)
        token = await asyncio.to_thread(hub_token, Secrets(self._paths.secrets_file))
        storage = Storage.of(settings, self._paths)
        await asyncio.to_thread(storage.settle)
        if isinstance(what, Source):  # its folder moves along with the layers
            self._node.model = replace(self._node.model, folder=storage.folder_of(self._node.model.folder))
        return Supply(
            self._node.model,
            storage,
            self._base(),
            me.peer_id,
            licences=Licences(self._paths.licences_file),
            records=lambda: self._node.generator.records(fresh=True),
            source=what if isinstance(what, Source) else None,
            hub=lambda: Hub(token=token),
        )

    def _base(self) -> WorkerConfig:
        from core.serving.worker import WorkerConfig
        from idlebloom.launch import version

        return WorkerConfig(
            model="",
            span=(0, 1),
            identity=str(self._paths.state / "worker.key"),
            runtime=str(self._paths.runtime),
            peers=self._node.peer.addresses,
            host=self._host,
            version=version(),
        )


@dataclass(frozen=True)
class Allowed:
    """What serving may take now, in bytes."""

    means: Means
    budget: int
    logs: int


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
