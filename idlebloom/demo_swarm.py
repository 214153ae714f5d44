"""A private swarm on this PC, in a temporary folder: the node in this process, each donor in one of its
own. It ends as a whole, whichever of its processes ends first."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

from core.errors import IdlebloomError, ModelError, UserError
from core.node.account import Account
from core.node.checkpoint import Model
from core.node.ledger import Ledger
from core.node.node import Node
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import start_peer
from core.swarm.secret import Secret
from core.terms import Span
from idlebloom.demo_status import Together
from idlebloom.launch import version
from idlebloom.progress import Progress
from idlebloom.temporary import temporary_folder

FLOAT32_LIMIT = 2 << 30
"""Bytes of weights up to which a demo computes in float32, the dtype that no one can find fault with."""
HAS_ENDED = "The demo has ended."


@dataclass(frozen=True)
class Plan:
    """Who holds what. ``threads`` are of each donor, ``rest`` seconds between its steps."""

    model: Model
    spans: tuple[Span, ...]
    threads: int
    rest: float = 0.0

    @classmethod
    def make(
        cls, folder: Path, spans: Sequence[Span] | None, donors: int, threads: int | None, rest: float
    ) -> Plan:
        """Raises ``ModelError`` for a folder or a span that does not fit, ``UserError`` for too many
        donors."""
        model = Model.read(folder)
        layers = model.config.layers
        chosen = tuple(spans) if spans else split(layers, donors)
        for span in chosen:
            if span.end > layers:
                raise ModelError(
                    f"span {span} is outside this model's layers 0 to {layers - 1}",
                    "0 is words in, the last is words out.",
                )
        return cls(model, chosen, threads or max(1, (os.cpu_count() or 1) // len(chosen)), rest)


class DemoSwarm:
    """Use it as a context: inside, the donors start; ``ready`` waits for them."""

    node: Node
    folder: Path

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan, self.progress = plan, progress
        self.workers: list[Worker] = []
        self.unplugged: set[Worker] = set()
        """Those whose end is no failure."""
        self._numbers: dict[Worker, int] = {}
        self._changed = asyncio.Event()
        self._peers: tuple[str, ...] = ()
        self._stack = contextlib.AsyncExitStack()
        self._secret = Secret.make()  # nobody else on this PC may join, or ask

    async def __aenter__(self) -> Self:
        self.folder = self._stack.enter_context(temporary_folder())
        try:
            await self._stack.enter_async_context(self._swarm())
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.progress.done()
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def _swarm(self) -> AsyncIterator[None]:
        self.progress.say("starting a private swarm on this PC")
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._stop_workers)
            for number in range(len(self.plan.spans)):
                log = self.folder / f"donor-{number + 1}.log"
                worker = await Worker.start(log=log, threads=self.plan.threads, remove=self.folder)
                self.workers.append(worker)
            peer = await start_peer(
                identity=self.folder / "node.key", runtime=self.folder, secret=self._secret
            )
            stack.push_async_callback(peer.close)
            self.node = Node(peer, self.plan.model, version())
            stack.push_async_callback(self.node.close)
            self._together = Together(self.node, Account(Ledger(self.folder / "ledger.json")))
            self._peers = tuple(peer.addresses)
            for number, worker in enumerate(self.workers):
                self._numbers[worker] = number
                worker.configure(self._config(number, peer.addresses), self.progress.loading(number))
            yield

    def holder(self, number: int) -> Worker | None:
        """Who holds a span of the plan now."""
        found = [one for one, held in self._numbers.items() if held == number and one not in self.unplugged]
        return found[0] if found else None

    async def add_worker(self, number: int) -> Worker:
        """Another donor of a span of the plan; it loads when this returns."""
        name = f"donor-{len(self._numbers) + 1}"
        worker = await Worker.start(
            log=self.folder / f"{name}.log", threads=self.plan.threads, remove=self.folder
        )
        self.workers.append(worker)
        self._numbers[worker] = number
        worker.configure(
            replace(self._config(number, self._peers), identity=str(self.folder / f"{name}.key"))
        )
        self._changed.set()
        return worker

    async def serves(self, worker: Worker) -> None:
        """Returns when another donor that was added serves; raises ``WorkerFailed`` when it cannot."""
        await worker.online()
        self._together.joined(worker, self.plan.spans[self._numbers[worker]])
        await self.node.look()

    async def remove_worker(self, worker: Worker) -> None:
        self.unplugged.add(worker)
        await worker.stop()

    def _config(self, number: int, peers: Sequence[str]) -> WorkerConfig:
        span = self.plan.spans[number]
        return WorkerConfig(
            model=str(self.plan.model.folder),
            span=(span.start, span.end),
            identity=str(self.folder / f"donor-{number + 1}.key"),
            runtime=str(self.folder),
            peers=tuple(peers),
            secret=self._secret.text,
            dtype="float32" if weights_size(self.plan.model.folder) <= FLOAT32_LIMIT else "auto",
            threads=self.plan.threads,
            rest=self.plan.rest,
        )

    async def _stop_workers(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def ready(self, end: asyncio.Event) -> bool:
        """Waits until all donors serve; ``False`` when told to end before. Raises their errors."""
        online = asyncio.create_task(self._online())
        told = asyncio.create_task(end.wait())
        try:
            await asyncio.wait({online, told}, return_when=asyncio.FIRST_COMPLETED)
            if end.is_set():
                return False
            await online
            return True
        finally:
            for task in (online, told):
                task.cancel()

    async def _online(self) -> None:
        await asyncio.gather(*(worker.online() for worker in self.workers))
        for worker in self.workers:
            self._together.joined(worker, self.plan.spans[self._numbers[worker]])
        await self.node.look()

    async def until(self, end: asyncio.Event) -> None:
        """Returns when told to end; raises when a part of the demo ended by itself."""
        failed = asyncio.create_task(self._failed())
        told = asyncio.create_task(end.wait())
        following = asyncio.create_task(self._together.follow())
        try:
            await asyncio.wait({failed, told}, return_when=asyncio.FIRST_COMPLETED)
            if end.is_set():
                return
            worker = failed.result()
            number = self._numbers[worker] + 1
            raise IdlebloomError(f"donor {number} is gone: {worker.failure().message}", HAS_ENDED)
        finally:
            for task in (failed, told, following):
                task.cancel()

    async def _failed(self) -> Worker:
        """The first donor that ends by itself."""
        while True:
            watched = [worker for worker in self.workers if worker not in self.unplugged]
            changed = asyncio.create_task(self._changed.wait())
            ends = {asyncio.create_task(worker.ended()): worker for worker in watched}
            try:
                await asyncio.wait({changed, *ends}, return_when=asyncio.FIRST_COMPLETED)
                self._changed.clear()
                for ended, worker in ends.items():
                    if ended.done() and worker not in self.unplugged:
                        return worker
            finally:
                for task in (changed, *ends):
                    task.cancel()


def split(layers: int, donors: int) -> tuple[Span, ...]:
    """Near-equal spans for that many donors."""
    if donors > layers:
        raise UserError(f"{donors} donors cannot share {layers} layers", f"Give --donors at most {layers}.")
    cuts = [round(layers * number / donors) for number in range(donors + 1)]
    return tuple(Span(start, end) for start, end in pairwise(cuts))


def weights_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
