"""What this PC serves and from where: from a budget of bytes to what a worker is told.

``Supply.deliver`` decides the span for a budget (``core.node.placing``), fetches what is missing of it
(``core.model.fetch``), and yields what a worker is to be told: first with the part that is there first,
then with ever longer spans, so that layers go online as they land. Cancel it to stop: at once, and what
came so far is kept. The worker quantizes, and keeps what it quantized below ``Storage.quantized``.

The node's loop decides *whether* to give and the budget; it calls ``deliver`` for a new worker, and
``resized`` for what a running one should serve when the budget has changed.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import replace
from itertools import pairwise

from core.errors import SwarmError
from core.model.config import ModelConfig
from core.model.cost import disk_of
from core.model.fetch import Fetcher
from core.model.fetched import layers_here, weights_listed
from core.model.hub import Hub, Source
from core.model.progress import FetchProgress
from core.model.quantize import stored_layers
from core.model.store import store_of
from core.node.checkpoint import Model
from core.node.delivery import Delivery, Report
from core.node.herald import Herald
from core.node.licences import Licences
from core.node.placing import (
    Around,
    Means,
    Place,
    ReadOver,
    elsewhere,
    ends_of,
    fitting,
    may_leave,
    nobody,
    place,
    room_of,
    whole,
)
from core.node.storage import Storage
from core.serving.choose import Why
from core.serving.fit import Fitting
from core.serving.levels import STRANGERS, Opinion
from core.serving.orders import WorkerConfig
from core.terms import PeerId, Progress, Record, Span

TELL_SECONDS = 20.0
"""Between two words to others about layers that are being fetched;"""
LOAD_SECONDS = 120.0
"""and what it takes at most to serve them, once they are here."""
EARLY_BYTES = 2 * 10**9
"""Where more than this has to be fetched, a part of the span goes online before the rest is there,"""
EARLY_PARTS = 4
"""in so many steps: each means another measurement, and another record."""


class Supply:
    """For one model. ``base`` is what any worker of this PC is told; ``hub`` opens the hub that ``source``
    is fetched from, ``None`` for a local folder; ``records`` reads the swarm's. Belongs to one loop."""

    def __init__(
        self,
        model: Model,
        storage: Storage,
        base: WorkerConfig,
        me: PeerId,
        *,
        licences: Licences,
        records: Callable[[], Awaitable[Collection[Record]]],
        source: Source | None = None,
        hub: Callable[[], AbstractAsyncContextManager[Hub]] = Hub,
        early: int = EARLY_BYTES,
        opinion: Opinion = STRANGERS,
        read_over: ReadOver = nobody,
    ) -> None:
        self.model, self.storage, self.base, self.me = model, storage, base, me
        self._licences, self._records, self._opinion = licences, records, opinion
        self._ends, self._read_over = ends_of(model.config), read_over
        self._source, self._hub, self._early = source, hub, early
        self._chance = random.Random()

    async def deliver(
        self,
        means: Means,
        budget: int,
        logs: int,
        report: Report,
        *,
        herald: Herald | None = None,
        goal: Span | None = None,
    ) -> AsyncIterator[Delivery]:
        """What to tell a worker that may take ``budget`` bytes of the device, ``logs`` of system memory
        for logs: ``goal``, where that is given and fits. ``herald`` tells others meanwhile what it will
        serve. Raises ``TooLittle``, ``NotAccepted``, ``ModelError``, ``DiskError``."""
        config = self.model.config
        self._licences.check(self.model.folder, config.model_id)
        able = await asyncio.to_thread(self._fitting, means, budget)
        chosen = whole(able) or await self._place(able, means, goal)
        says = _Says(herald, chosen.span, room_of(able), means)
        try:
            deliveries = self._deliveries(chosen, able, means, (budget, logs), says.tells(report))
            async with aclosing(deliveries):  # type: ignore[type-var]
                async for delivery in deliveries:
                    yield replace(delivery, online=says.end)
        finally:
            await says.withdraw()

    async def _deliveries(
        self, chosen: Place, able: Fitting, means: Means, bytes_: tuple[int, int], report: Report
    ) -> AsyncIterator[Delivery]:
        budget, logs = bytes_
        told = replace(
            self.base,
            model=str(self.model.folder),
            cache_tokens=chosen.cache_tokens,
            device=means.device,
            dtype=means.dtype,
            quantization=means.quantization,
            store=str(self.storage.quantized) if means.quantization != "none" else "",
            cache=str(self.storage.quantized.parent / "device"),
            log_bytes=logs,
            memory_cap=budget,
            room=room_of(able),
        )
        async for span in self._fetched(chosen.span, able, means, report):
            ready = await asyncio.to_thread(self._quantized, means)
            new = means.quantization != "none" and not ready.issuperset(range(max(span.start, 1), span.end))
            phase = "quantizing" if new else "loading"
            last = span == chosen.span
            yield Delivery(replace(told, span=(span.start, span.end)), phase, last, chosen.span)

    async def resized(self, means: Means, budget: int, serving: Span, report: Report) -> Span:
        """The span around, or within, ``serving`` that a changed budget allows, with its layers fetched.
        Raises ``TooLittle`` where none of it fits, and as ``deliver``."""
        able = await asyncio.to_thread(self._fitting, means, budget)
        held = _held(await self._seen(), len(able.table), self.me)

        def worth(span: Span) -> float:
            return sum(1 / (1 + held[layer]) for layer in range(span.start, span.end))

        fit = await asyncio.to_thread(able.refit, serving, worth)
        async for _ in self._fetched(fit.span, able, means, report):
            pass
        return fit.span

    # Moving

    async def elsewhere(self, means: Means, budget: int, goal: Span, *, alone: bool = False) -> Span | None:
        """Where a donor that serves ``goal``, or fetches it, should rather be; ``None``: there. ``alone``: it
        counts on nobody else to move. Raises ``SwarmError``."""
        able = await asyncio.to_thread(self._fitting, means, budget)
        if whole(able) is not None:
            return None
        here = await asyncio.to_thread(self._here, means) if self._source else range(self.model.config.layers)
        around = replace(await self._around(), alone=alone)
        choice = await asyncio.to_thread(elsewhere, able, around, goal, here, self._chance)
        return None if choice.why is Why.KEEP or choice.span == goal else choice.span

    async def may_leave(self, means: Means, budget: int, serving: Span, goal: Span, *, known: bool) -> bool:
        """Whether nobody needs it any more for what it would drop; ``known``: others have long been told
        where it goes. Raises ``SwarmError``."""
        able = await asyncio.to_thread(self._fitting, means, budget)
        return await may_leave(able, self._around, serving, goal, self._read_over, known=known)

    async def fetch(self, means: Means, budget: int, span: Span, report: Report) -> None:
        """Have the layers of ``span`` on the disk."""
        able = await asyncio.to_thread(self._fitting, means, budget)
        async for _ in self._fetched(span, able, means, report):
            pass

    async def _around(self) -> Around:
        return Around(await self._records(), self.me, time.time(), self._opinion, self._ends)

    # Deciding

    def _fitting(self, means: Means, budget: int) -> Fitting:
        config = self.model.config
        stored, tied = _stored(config, weights_listed(self.model.folder))
        if self._source is None:
            return fitting(config, means, budget, stored=stored, tied=tied)
        room = self.storage.room()
        # Beside what is fetched, what is quantized from it has to fit.
        kept = {"nf4": 0.55 / stored, "int8": 1.05 / stored}.get(means.quantization, 0.0)
        return fitting(config, means, budget, disk=int(room / (1 + kept)), stored=stored, tied=tied)

    async def _place(self, able: Fitting, means: Means, goal: Span | None) -> Place:
        if goal is not None and able.fits(goal):
            return Place(goal, able.fit(goal).cache_tokens)
        here = await asyncio.to_thread(self._here, means) if self._source else range(self.model.config.layers)
        known = await asyncio.to_thread(self._known, means, here)
        records, now = await self._seen(), time.time()

        def placed() -> Place:
            return place(
                able,
                records,
                self.me,
                now,
                self._chance,
                here=known,
                opinion=self._opinion,
                others_ends=self._ends,
            )

        return await asyncio.to_thread(placed)

    async def _seen(self) -> Collection[Record]:
        try:
            return await self._records()
        except SwarmError:
            return ()  # nobody to be seen: the first of the swarm begins anywhere

    def _known(self, means: Means, here: Collection[int]) -> Collection[int]:
        """What this PC served before: of a local folder, whose layers are all here, what is quantized."""
        return here if self._source else self._quantized(means)

    def _here(self, means: Means) -> frozenset[int]:
        return layers_here(self.model.folder, self.model.config) | self._quantized(means)

    def _quantized(self, means: Means) -> frozenset[int]:
        if means.quantization == "none":
            return frozenset()
        folder, config = self.model.folder, self.model.config
        return stored_layers(store_of(self.storage.quantized, folder, config, means.quantization), config)

    # Fetching

    async def _fetched(self, span: Span, able: Fitting, means: Means, report: Report) -> AsyncIterator[Span]:
        """Ever longer parts of ``span`` from its start, each once it is on the disk."""
        if self._source is None:
            yield span
            return
        here = await asyncio.to_thread(self._here, means)
        lacking = sum(able.table[n].disk for n in range(span.start, span.end) if n not in here)
        count = EARLY_PARTS if lacking > self._early else 1
        parts = _parts(span, count)
        total, done = disk_of(able.table, span), 0
        async with self._hub() as hub:
            fetcher = Fetcher(hub, self.storage.shelf)
            for part in parts:
                reached = 0

                def tell(progress: FetchProgress, done: int = done) -> None:
                    nonlocal reached
                    reached = progress.total
                    report(_progress(progress, done, max(total, done + progress.total)))

                await fetcher.span(
                    self._source, part, tell, held=lambda folder, config: self._quantized(means)
                )
                done += reached
                yield Span(span.start, part.end)


class _Says:
    """What others are told through a ``herald``, if there is one, before the worker serves ``span``."""

    def __init__(self, herald: Herald | None, span: Span, room: int, means: Means) -> None:
        self._herald, self._span, self._room, self._means = herald, span, room, means
        self._told_at = -math.inf
        self.tell(0.0)

    def tell(self, seconds_left: float) -> None:
        if self._herald is not None and time.monotonic() - self._told_at > TELL_SECONDS:
            self._told_at = time.monotonic()
            self._herald.tell(
                self._span,
                seconds_left + LOAD_SECONDS,
                room=self._room,
                quantization=self._means.quantization,
                device=self._means.device,
                wire=self._means.dtype,
            )

    def tells(self, report: Report) -> Report:
        """``report``, which tells others too how long it will take."""

        def both(progress: Progress) -> None:
            report(progress)
            self.tell(progress.seconds_left or 0.0)

        return both

    async def end(self) -> None:
        herald, self._herald = self._herald, None
        if herald is not None:
            await herald.end()

    async def withdraw(self) -> None:
        if self._herald is not None:
            with suppress(SwarmError):
                await self._herald.withdraw()


def _progress(progress: FetchProgress, before: int, total: int) -> Progress:
    done = before + progress.done
    left = (total - done) / progress.rate if progress.rate else progress.seconds_left
    return Progress("fetching", done, total, left)


def _parts(span: Span, count: int) -> list[Span]:
    """``span`` in so many parts, or as many as it has layers."""
    count = min(count, len(span))
    cuts = [span.start + round(len(span) * number / count) for number in range(count + 1)]
    return [Span(start, end) for start, end in pairwise(cuts)]


def _held(records: Collection[Record], layers: int, me: PeerId) -> list[int]:
    """How many others hold each layer."""
    held = [0] * layers
    for record in records:
        if record.peer_id != me and record.span.end <= layers:
            for layer in range(record.span.start, record.span.end):
                held[layer] += 1
    return held


def _stored(config: ModelConfig, size: int) -> tuple[int, bool]:
    """Bytes a number in files of ``size`` bytes in all, and whether the ends share a matrix there."""
    h = config.hidden
    matrix, rest = config.vocab * h, config.blocks * (12 * h * h + 13 * h) + 4 * h
    forms = [(stored, tied) for stored in (2, 4) for tied in (True, False)]
    return min(forms, key=lambda form: abs(size - form[0] * (rest + matrix * (1 if form[1] else 2))))
