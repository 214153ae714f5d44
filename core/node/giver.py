"""What this PC serves when it gives: from the settings to a budget of bytes, a supply of layers and a worker.

``Giver`` carries out; whether to give is for ``core.node.loop`` to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from core.errors import DiskError, IdlebloomError, SettingError, TooLittle
from core.meter import Caps, Throttle, cap_of, left_for_downloads
from core.model.config import ref
from core.model.hub import Hub, Source
from core.node.delivery import Delivery, Report
from core.node.herald import Herald
from core.node.licences import Licences
from core.node.models import chosen, hub_token
from core.node.mover import Mover
from core.node.node import Node
from core.node.placing import Means, cpu_budget, gpu_budget, log_budget, means
from core.node.storage import Storage
from core.node.supply import Supply
from core.node.trial import Trial
from core.paths import Paths
from core.pc.gpu import read_gpus
from core.pc.machine import memory_of, read_machine
from core.secrets import Vault
from core.serving.loading import fast_dtype
from core.serving.orders import WorkerConfig
from core.serving.supervisor import WorkerFailed
from core.settings import Change, Settings
from core.swarm.identity import load_identity
from core.swarm.secret import Secret
from core.terms import Because, Memory, Reason, Span, State

log = logging.getLogger(__name__)

ANOTHER_FORM = {"data_dir", "device", "quantization"}
"""Settings whose change needs another worker;"""
CAPS = {"upload_mbit", "download_mbit"}
ANOTHER_SIZE = {"leave_vram_gb", "ram_gb", "disk_gb"}
"""and those that one which serves can follow."""


@dataclass(frozen=True)
class Standing:
    """How this node takes part in its swarm; its worker does so too. ``host``: where others dial them."""

    host: str
    peers: tuple[str, ...] = ()
    secret: Secret | None = None
    open_router_ports: bool = False


class Giver:
    """Serves for ``node``. Belongs to the node's loop."""

    def __init__(self, node: Node, paths: Paths, standing: Standing, secrets: Vault, version: str) -> None:
        self._node, self._paths, self._standing, self._version = node, paths, standing, version
        self._secrets = secrets
        self._resizing: asyncio.Task[None] | None = None
        self._settings = Settings()
        self._goal: Span | None = None
        """Where it decided to go while it served."""
        self.downloads = Throttle()
        """What is fetched, held to what the worker leaves of the cap."""
        self.cap = 0
        """Bytes that the worker may take, 0 before the first;"""
        self.on_gpu = False
        """of a GPU's memory, else of the system's."""

    def begin(self, settings: Settings) -> None:
        """Serve what fits, from now on and also after failures, until the node is told to stop."""
        self._settings, self._goal = settings, None
        self._node.give(
            lambda report: self._deliver(self._settings, report, serves=True),
            self._paths.state / "worker.log",
            beside=self._beside,
            runtime=self._paths.runtime,
        )

    async def _beside(self) -> None:
        """What is done while a worker serves."""
        me = await asyncio.to_thread(load_identity, self._paths.state / "worker.key")
        async with asyncio.TaskGroup() as doing:
            doing.create_task(Mover(self, self._options).run())
            doing.create_task(Trial(self._node.generator, {me.peer_id}).run())

    # Where it serves

    @property
    def serving(self) -> Span | None:
        settled = not self._node.extends and (self._resizing is None or self._resizing.done())
        return self._node.serving if settled else None

    @property
    def whole(self) -> bool:
        return self._node.status.swarm.whole and self._node.generator.whole

    def goes(self, span: Span | None) -> None:
        if self._node.worker is not None:
            self._node.worker.going(span)

    def report(self) -> Report:
        return self._node.fetching

    async def _options(self) -> _Options:
        supply = await self._supply(self._settings)
        return _Options(supply, await asyncio.to_thread(self._allowed, self._settings), self._go)

    async def _go(self, span: Span, budget: int) -> None:
        self._goal = span  # for a worker that is started anew
        await self._node.move(span, budget)

    async def fetch(self, settings: Settings, report: Report) -> None:
        """Have the layers on the disk that would be served, where they come from the hub; raises what
        fetching raises."""
        if not isinstance(chosen(settings.model), Source):
            return
        async with aclosing(self._deliver(settings, report)) as deliveries:  # type: ignore[type-var]
            async for _ in deliveries:
                pass

    def deal(self, settings: Settings, worker_rate: float) -> None:
        """Downloads have what the worker, which takes ``worker_rate`` bytes a second, leaves of the cap."""
        self.downloads.limit.rate = left_for_downloads(cap_of(settings.download_mbit), worker_rate)

    def check(self, change: Change) -> None:
        """A folder for layers has to take what is in the one before. Raises ``SettingError``."""
        if "data_dir" in change:
            before, after = Storage.of(change.before, self._paths), Storage.of(change.after, self._paths)
            try:
                after.check_room(before.root)
            except DiskError as error:
                raise SettingError(error.message, error.advice) from error

    async def change(self, change: Change) -> bool:
        """Follow a change while it gives. ``False``: only a new worker can."""
        names = set(change.names)
        self._settings = change.after
        if names & CAPS and self._node.worker is not None:
            self._node.worker.hold(Caps(change.after.upload_mbit, change.after.download_mbit))
        if names & ANOTHER_FORM:
            return False
        if not names & ANOTHER_SIZE:
            return True
        serving = self._node.serving
        if serving is None or self._node.extends:  # what is on its way was decided under the old settings
            return False
        if self._resizing is not None:
            self._resizing.cancel()
        # In a task: layers to be fetched may take hours, and the loop has to look after the owner.
        self._resizing = asyncio.create_task(self._resize(change.after, serving), name="resize")
        return True

    async def _resize(self, settings: Settings, serving: Span) -> None:
        """More or less memory or disk, without a restart of the worker where some of its span stays."""
        try:
            supply, allowed = await self._supply(settings), await asyncio.to_thread(self._allowed, settings)
            await asyncio.to_thread(supply.storage.trim)
            span = await supply.resized(allowed.means, allowed.budget, serving, self._node.fetching)
            await self._node.resize(span, allowed.budget)
        except TooLittle:  # the next round begins anew, and says why nothing fits
            await self._node.stop_giving(State.WAITING, Because(Reason.CHANGING))
        except (IdlebloomError, WorkerFailed) as error:
            log.warning("the span stays as it is: %s", error)

    def memory(self) -> Memory:
        """What the worker takes of the system's memory, and may take of its device's."""
        pid = self._node.worker_pid
        return Memory(memory_of(pid) if pid is not None else 0, self.cap)

    async def _deliver(
        self, settings: Settings, report: Report, *, serves: bool = False
    ) -> AsyncIterator[Delivery]:
        """``serves``: a worker waits for it, and others are told."""
        supply, allowed = await self._supply(settings), await asyncio.to_thread(self._allowed, settings)
        herald = None
        if serves:
            identity = await asyncio.to_thread(load_identity, self._paths.state / "worker.key")
            herald = Herald(self._node.peer.directory, identity, ref(self._node.model.config))
        deliveries = supply.deliver(
            allowed.means,
            allowed.budget,
            allowed.logs,
            report,
            herald=herald,
            goal=self._goal if serves else None,
        )
        async with aclosing(deliveries):  # type: ignore[type-var]
            async for delivery in deliveries:
                yield delivery

    def _allowed(self, settings: Settings) -> Allowed:
        gpus = read_gpus().found
        how = means(settings, gpus, fast_dtype())
        pid = self._node.worker_pid
        available = read_machine().available_bytes + (memory_of(pid) if pid else 0)
        number = int(how.device.partition(":")[2] or 0)
        if not how.on_gpu:
            budget = cpu_budget(settings, available)
        elif number < len(gpus):
            budget = gpu_budget(settings, gpus[number].memory_bytes, gpus[number].free_bytes)
        else:
            raise TooLittle(f"there is no {how.device}", "Set device to auto, or install NVIDIA's driver.")
        self.cap, self.on_gpu = budget, how.on_gpu
        return Allowed(how, budget, log_budget(settings, how, budget, available))

    async def _supply(self, settings: Settings) -> Supply:
        me = await asyncio.to_thread(load_identity, self._paths.state / "worker.key")
        what = chosen(settings.model)
        token = await asyncio.to_thread(hub_token, self._secrets)
        storage = Storage.of(settings, self._paths)
        await asyncio.to_thread(storage.settle)
        if isinstance(what, Source):  # its folder moves along with the layers
            self._node.model = replace(self._node.model, folder=storage.folder_of(self._node.model.folder))
        return Supply(
            self._node.model,
            storage,
            self._base(settings),
            me.peer_id,
            licences=Licences(self._paths.licences_file),
            records=lambda: self._node.generator.believed(fresh=True),
            source=what if isinstance(what, Source) else None,
            opinion=self._node.generator.experience,
            hub=lambda: Hub(token=token, throttle=self.downloads),
            read_over=self._node.generator.read_over,
        )

    def _base(self, settings: Settings) -> WorkerConfig:
        standing = self._standing
        return WorkerConfig(
            model="",
            span=(0, 1),
            identity=str(self._paths.state / "worker.key"),
            runtime=str(self._paths.runtime),
            # The node is its worker's way in, and the meeting points tell it whether it can be dialled.
            peers=(*standing.peers, *self._node.peer.addresses),
            host=standing.host,
            owner=self._node.peer.peer_id,
            upload_mbit=settings.upload_mbit,
            download_mbit=settings.download_mbit,
            secret=standing.secret.text if standing.secret is not None else "",
            open_router_ports=standing.open_router_ports,
            version=self._version,
        )


@dataclass(frozen=True)
class _Options:
    """What the mover may choose among (``core.node.mover.Options``)."""

    supply: Supply
    allowed: Allowed
    go: Callable[[Span, int], Awaitable[None]]

    async def elsewhere(self, goal: Span, *, alone: bool) -> Span | None:
        return await self.supply.elsewhere(self.allowed.means, self.allowed.budget, goal, alone=alone)

    async def may_leave(self, serving: Span, goal: Span, *, known: bool) -> bool:
        return await self.supply.may_leave(
            self.allowed.means, self.allowed.budget, serving, goal, known=known
        )

    async def fetch(self, span: Span, report: Report) -> None:
        await self.supply.fetch(self.allowed.means, self.allowed.budget, span, report)

    async def move(self, span: Span) -> None:
        await self.go(span, self.allowed.budget)


@dataclass(frozen=True)
class Allowed:
    """What serving may take now, in bytes."""

    means: Means
    budget: int
    logs: int
