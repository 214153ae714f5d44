"""The node: this PC's place in a swarm. One event loop holds its peer, its reader's side and its status.

What the node gives is done by workers in processes of their own; the node starts and ends them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from core.errors import DiskError, IdlebloomError, ModelError, SwarmError, UserError
from core.model.config import ref
from core.node.beginning import cleared, first_of, why_not
from core.node.checkpoint import Model
from core.node.delivery import Deliver, Delivery
from core.node.elsewhere import Elsewhere
from core.node.licences import Licences, of_model
from core.node.troubles import with_trouble
from core.routing.ask import Ask, Event
from core.routing.generate import Generator
from core.routing.route import missing
from core.serving.orders import MOVE_SECONDS
from core.serving.supervisor import OnCounts, Worker, WorkerFailed
from core.swarm.daemon import sweep
from core.swarm.identity import load_identity
from core.swarm.peer import Peer
from core.swarm.watch import withdraw_for
from core.terms import Because, DonorState, Progress, Reason, Span, State, Status, SwarmView

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
RETRY_SECONDS = (5.0, 15.0, 60.0, 300.0)
"""Pauses before a worker that failed is started again; the last one repeats."""
WITHDRAW_SECONDS = 2.0
"""For so long a node that ends goes on telling the swarm that its worker has gone."""
STEADY_SECONDS = 300.0
"""A worker that served for so long was well: if it fails after that, the pauses begin anew."""


class Node:
    """A peer, an answering side, and perhaps workers. Made and used in one event loop; ``status`` may
    be read from anywhere, and ``watchers`` are called with each new snapshot."""

    def __init__(self, peer: Peer, model: Model, version: str) -> None:
        self.peer, self.model = peer, model
        self.generator = Generator(peer, model.config, model.text)
        self.card = model.card()
        self.watchers: list[Callable[[Status], None]] = []
        self._worker: Worker | None = None
        self._serving: Span | None = None
        self.status = Status(
            version,
            State.OFF,
            Because(Reason.NO_CONSENT),
            swarm=SwarmView(model.config.model_id),
            blocks=model.config.blocks,
        )
        self.untroubled = self.status
        """What is shown while nothing is wrong with the network."""
        peer.watchers.append(self._show)
        self._show()
        self._looking = asyncio.create_task(self._look_around(), name="look around")
        self._giving: asyncio.Task[None] | None = None
        self.extends = False
        """Whether more layers are on their way to the worker."""
        self._withdrawing: asyncio.Task[None] | None = None
        self.licences: Licences | None = None
        """What was accepted; ``None``: nothing has to be."""
        self.on_counts: OnCounts | None = None
        """Called with what the worker counts, as it does."""
        self._beside: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._runtime: Path | None = None
        """Where its sockets are."""
        self._renews = False
        """The worker ends to be started anew, with other layers."""
        self._reading, self._read_at = 0, -math.inf
        self.elsewhere = Elsewhere(peer.directory, ref(model.config))
        self._leaves = False

    async def generate(self, ask: Ask) -> AsyncGenerator[Event, None]:
        if self.licences is not None:
            self.licences.check(self.model.folder, self.model.config.model_id)
        self._reading += 1
        try:
            async for event in self.generator.generate(ask):
                yield event
        finally:
            self._reading -= 1
            self._read_at = time.monotonic()

    @property
    def licence(self) -> str:
        """The licence that has to be accepted before this model answers; empty where none has."""
        if self.licences is None:
            return ""
        licence = of_model(self.model.folder, self.model.config.model_id)
        return "" if not licence or self.licences.accepted(licence) else licence

    async def close(self) -> None:
        tasks = [task for task in (self._looking, self._giving) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._withdrawing is not None:
            await asyncio.wait({self._withdrawing}, timeout=WITHDRAW_SECONDS)
            self._withdrawing.cancel()
        await self.generator.leave()

    @property
    def own_chat_seconds(self) -> float | None:
        """Since an answer was last read through this node; 0 while one is, ``None`` where none was."""
        if self._reading:
            return 0.0
        return None if math.isinf(self._read_at) else time.monotonic() - self._read_at

    # Status

    def publish(self, status: Status) -> None:
        """Replaces the snapshot and tells the watchers, if anything changed."""
        self.untroubled = status
        self._show()

    def _show(self) -> None:
        """Also when only trouble in the network has come or gone."""
        worker = self._worker
        own = worker.trouble if worker is not None and self._serving is not None else None
        status = with_trouble(self.untroubled, self.peer.trouble or own)
        if status == self.status:
            return
        self.status = status
        for watcher in tuple(self.watchers):
            watcher(status)

    async def look(self, *, fresh: bool = True) -> SwarmView:
        """Reads the records and publishes what they say; unless ``fresh``, as seldom as so many allow."""
        generator = self.generator
        records = await (generator.records(fresh=True) if fresh else generator.glance(LOOK_SECONDS))
        online = [record for record in records if record.state is DonorState.ONLINE]
        holes = missing(online, self.model.config.layers)
        view = SwarmView(self.model.config.model_id, not holes, holes, len(online))
        self.publish(replace(self.untroubled, swarm=view))
        return view

    async def _look_around(self) -> None:
        while True:
            try:
                await self.look(fresh=False)
            except SwarmError as error:
                log.warning("the directory could not be read: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    # Giving

    @property
    def gives(self) -> bool:
        """Whether it serves, or tries to."""
        return self._giving is not None

    @property
    def serving(self) -> Span | None:
        """What its worker serves now; ``None`` while there is none or it is still loading."""
        return self._serving

    @property
    def worker(self) -> Worker | None:
        return self._worker

    @property
    def worker_pid(self) -> int | None:
        return self._worker.process.pid if self._worker is not None else None

    def give(
        self,
        deliver: Deliver,
        log_file: Path,
        beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
        runtime: Path | None = None,
    ) -> None:
        """Serves from now on what ``deliver`` says, starting the worker again when it fails. ``beside`` runs
        while a worker serves."""
        if self._giving is None:
            self._leaves, self._beside, self._runtime = False, beside, runtime
            self._giving = asyncio.create_task(self._keep_giving(deliver, log_file), name="give")

    async def stop_giving(self, state: State, because: Because) -> None:
        """Ends the worker, if there is one; its memory is free when this returns."""
        giving, self._giving = self._giving, None
        if giving is not None:
            self.publish(replace(self.untroubled, state=State.LEAVING, reason=because, progress=None))
            giving.cancel()
            await asyncio.wait({giving})
        self.publish(replace(self.untroubled, state=state, reason=because, span=None, progress=None))

    async def leave(self, state: State, because: Because, seconds: float) -> None:
        """Ends the worker as planned: its readers have ``seconds`` to move while it serves."""
        worker, self._leaves = self._worker, True
        self.publish(replace(self.untroubled, state=State.LEAVING, reason=because, progress=None))
        if worker is not None:
            await worker.drain(seconds)
        await self.stop_giving(state, because)

    async def resize(self, span: Span, memory_cap: int = 0) -> None:
        """Has the running worker serve other layers, around those that it has. Raises ``WorkerFailed``."""
        worker = self._worker
        if worker is None or self._serving is None:
            return
        resized = await worker.resize(span, memory_cap=memory_cap)
        if resized.trouble:
            log.warning("layers %s are not served: %s", span, resized.trouble)
        if self._worker is worker:
            self._serving = resized.span
            self.publish(replace(self.untroubled, span=resized.span, progress=None))

    async def move(self, span: Span, memory_cap: int = 0) -> None:
        """Has the worker serve ``span``, whose layers are here: without a restart where some of its span
        stays, else as one that leaves and comes back. Raises ``WorkerFailed``."""
        worker, serving = self._worker, self._serving
        if worker is None or serving is None:
            return
        if span.start < serving.end and serving.start < span.end:
            await self.resize(span, memory_cap)
            return
        self._renews = True
        await worker.drain(MOVE_SECONDS)

    async def _keep_giving(self, deliver: Deliver, log_file: Path) -> None:
        tries = 0
        while True:
            started = time.monotonic()
            try:
                await self._give_once(deliver, log_file, ahead=not tries)
            except (UserError, ModelError, DiskError, WorkerFailed) as failure:
                error: IdlebloomError = failure
            if self._leaves:
                return
            if self._renews:
                self._renews = False
                continue
            if time.monotonic() - started > STEADY_SECONDS:
                tries = 0
            pause = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
            tries += 1
            state, because = why_not(error, time.time() + pause)
            self.publish(replace(self.untroubled, state=state, reason=because, span=None, progress=None))
            places = (self.model.folder, log_file.parent)
            if await cleared(error, pause, places, lambda: not self.licence):
                tries = 0

    async def _give_once(self, deliver: Deliver, log_file: Path, *, ahead: bool) -> NoReturn:
        """Serves until the worker ends; raises ``WorkerFailed``, for by itself it should not, and what
        ``deliver`` raises. ``ahead``: starts the worker before it is known what it serves."""
        self.publish(replace(self.untroubled, state=State.LOADING, reason=None, progress=None))
        async with aclosing(deliver(self.fetching)) as deliveries:  # type: ignore[type-var]
            first, worker = await first_of(deliveries, log_file, self._runtime, ahead=ahead)
            self._worker, worker.on_counts = worker, self.on_counts
            worker.on_trouble = self._show
            beside: asyncio.Task[None] | None = None
            try:
                await self._load(worker, first)
                if self._beside is not None:
                    beside = asyncio.create_task(self._beside(), name="beside")
                await self._extend(worker, deliveries)
                await worker.ended()
                raise worker.failure()
            finally:
                if beside is not None:
                    beside.cancel()
                self._worker = self._serving = None
                await asyncio.shield(worker.stop())
                sweep(Path(first.config.runtime))
                self._withdrawing = asyncio.create_task(self._withdraw(Path(first.config.identity)))

    async def _withdraw(self, key: Path) -> None:
        """A worker that had no time to say that it leaves: this node says it, so that nobody plans with it
        until its record runs out."""
        died_at = time.time()
        if not await asyncio.to_thread(key.exists):  # it died before it had joined
            return
        with suppress(SwarmError, OSError):
            identity = await asyncio.to_thread(load_identity, key)
            await withdraw_for(self.peer.directory, identity, ref(self.model.config), died_at)
            if not self._looking.done():
                await self.look()

    async def _load(self, worker: Worker, first: Delivery) -> None:
        """The worker serves the first layers when this returns."""
        self.publish(replace(self.untroubled, state=State.LOADING, span=first.span, progress=None))
        started = time.monotonic()

        def loading(done: int, total: int) -> None:
            spent = time.monotonic() - started
            left = (total - done) * spent / done if done and spent > 1 else None
            progress = Progress(first.phase, done, total, left)
            self.publish(replace(self.untroubled, state=State.LOADING, progress=progress))

        worker.configure(first.config, loading)
        await worker.online()
        self._serving = first.span
        if first.online is not None:
            await first.online()
            # What was said for it a moment ago may lie in the directory for longer than its own first record.
            worker.going(None if first.whole else first.goal)
        self.publish(replace(self.untroubled, state=State.GIVING, progress=None))
        with suppress(SwarmError):  # it is looked at again soon
            await self.look()

    async def _extend(self, worker: Worker, deliveries: AsyncIterator[Delivery]) -> None:
        """More layers as they land, for as long as the worker lives."""
        self.extends = True
        ended = asyncio.ensure_future(worker.ended())
        try:
            while not ended.done():
                more = asyncio.ensure_future(anext(deliveries, None))
                try:
                    await asyncio.wait({more, ended}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not more.done():
                        more.cancel()
                        await asyncio.wait({more})
                if more.cancelled():
                    return
                try:
                    delivery = more.result()
                except (UserError, ModelError, DiskError) as error:
                    log.warning("more layers could not be had; those that are there are served: %s", error)
                    return
                if delivery is None:
                    return
                await self.resize(delivery.span)
        finally:
            self.extends = False
            ended.cancel()
            if self._serving is not None:
                self.publish(replace(self.status, progress=None))

    def fetching(self, progress: Progress) -> None:
        """Publishes how far fetching is."""
        state = State.FETCHING if self._serving is None else self.untroubled.state
        self.publish(replace(self.untroubled, state=state, reason=None, progress=progress))
