"""A donor: a span of a model served to a swarm, whatever the process and the network around it.

It announces *joining*, serves, measures itself, keeps its record fresh, and announces *leaving*.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import psutil
import torch

from core.errors import SwarmError
from core.model.cache import CachePool
from core.model.config import ref
from core.model.span import SpanModel
from core.ring.frames import Lane
from core.serving.counts import Counts
from core.serving.device import free_unused
from core.serving.engine import Engine, Speed
from core.serving.loading import phase
from core.serving.measure import measure
from core.serving.sessions import Sessions
from core.swarm.codec import CONTROL
from core.swarm.frames import LANES
from core.swarm.peer import Peer
from core.swarm.pinger import Pinger
from core.swarm.watch import Announcer
from core.terms import DonorState, PeerId, Record, Span, WireDtype

UPDATE_SECONDS = 20
"""How often the record is made anew from what was measured since."""
NEWS_SECONDS = 3
"""Sooner where the way to its neighbours has become known, or has changed by more than"""
NEWS_DELAY = 0.005
"""seconds; but no sooner than this."""
ANNOUNCE_SECONDS = 5.0
WITHDRAW_SECONDS = 2.0
DRAIN_LOOK_SECONDS = 0.1
ANNOUNCE_PAUSES = (0.3, 0.7, 1.5, 3.0)
SHORTAGE_SECONDS = 600.0
SHORTAGES = 2
"""After so many steps without memory in that time a donor lends less cache: this part of what it lent,"""
LESS = 0.75
LEAST_ROWS = 32
"""and takes shorter pieces of prompts, down to so many rows."""
STEP_BYTES = 48 << 20
"""System memory kept free for a step beyond those that were measured, and for streams;"""
MARGIN_BYTES = 16 << 20
"""and below the cap when sessions are given up."""


@dataclass(frozen=True)
class DonorOptions:
    """``cache_tokens`` is the pool's size in positions of a session, ``places`` how many sessions may
    be open at once; ``rest`` seconds are slept after each step; ``log_bytes`` of
    host memory hold the logs of outputs."""

    cache_tokens: int = 16_384
    places: int = 64
    rest: float = 0.0
    version: str = ""
    speculate: bool = True
    log_bytes: int = 1 << 30
    memory_cap: int = 0
    """Bytes of system memory that the process and its children may take; 0: nobody watches."""
    room: int = 0
    """Bytes of the device that layers, caches and a step may take, as others are told."""


class Donor:
    """Serves ``model`` through ``peer``. All methods belong to one event loop."""

    def __init__(self, peer: Peer, model: SpanModel, options: DonorOptions) -> None:
        self.peer, self.model, self.options = peer, model, options
        config = model.config
        self.pool = CachePool(
            config,
            model.span,
            model.dtype,
            model.device,
            capacity_tokens=options.cache_tokens,
            max_length=config.max_length,
            slots=options.places,
        )
        self.sessions = Sessions(
            peer,
            config,
            model.span,
            self.pool,
            wires=_wires(model.dtype),
            changed=self._changed,
            no_memory=self._no_memory,
            speculate=options.speculate,
            log_bytes=options.log_bytes,
        )
        self.engine = Engine(
            model,
            self.pool,
            waiting=self.sessions.waiting,
            begin=self.sessions.begin,  # type: ignore[arg-type]
            finished=self.sessions.finished,
            parts=self.sessions.parts,
            lost=self._lost,
            rest=options.rest,
        )
        self.pinger = Pinger(peer, ref(config), model.span)
        self.sessions.upload.round_trip = self.pinger.round_trip
        self.metering = self.sessions.outgoing.links.metering
        self.metering.pid = lambda: peer.pid
        self._announcer = Announcer(peer.directory)
        self._keeping: asyncio.Task[None] | None = None
        self._started_at = time.time()
        self._state = DonorState.ONLINE
        self._going: Span | None = None
        self._part = 1.0
        """Of the cache, what is lent after shortages."""
        self.lost = asyncio.Event()
        """The device has failed, as ``failure`` says: this process can serve no more."""
        self.failure = ""
        self._shortages: list[float] = []
        """When steps found no memory, of late."""

    def _changed(self) -> None:
        self.engine.kick()

    def _lost(self, why: str) -> None:
        self.failure = why
        self.lost.set()

    def serve_only(self, client: PeerId | None) -> None:
        """Serve this client's sessions alone: others are given up, and told to look elsewhere. ``None``:
        serve everyone again."""
        self.sessions.serve_only(client)
        self._state = DonorState.ONLINE if client is None else DonorState.LEAVING
        self._announcer.update(self._record(self._state))

    def goes_to(self, span: Span | None) -> None:
        """Others are told that it will serve ``span`` once its layers are here; ``None``: it stays."""
        self._going = span
        self.tell()

    def tell(self) -> None:
        """Others, at once: its addresses may have changed."""
        if self._keeping is not None and not self._keeping.done():
            self._announcer.update(self._record(self._state))

    def rest_for(self, part: float) -> None:
        """Rest for this part of the time from the next step on."""
        self.engine.rest_part = part

    @property
    def counts(self) -> Counts:
        """What was served since the start."""
        sessions = self.sessions
        payload, carried = sessions.traffic, self.metering.carried
        return Counts(
            tokens=self.engine.tokens,
            conversations=sessions.conversations,
            sessions=len({held.part.session for held in sessions.table}),
            # The kernel leaves out what stays on this PC; where it tells nothing, payload is all there is.
            up_bytes=max(payload.up, carried.up),
            down_bytes=max(payload.down, carried.down),
        )

    async def start(self) -> None:
        """Returns when the donor serves and its record is stored. Raises ``SwarmError`` when no peer
        of the swarm takes the record."""
        await self._measure()
        phase("steps are measured")
        self._lend()
        await self.peer.serve(CONTROL, self.sessions.clients.serve_control)
        for lane in Lane:
            await self.peer.serve(LANES[lane], partial(self.sessions.incoming.serve_lane, lane=lane))
        await self._announce_first()
        self.pinger.start()
        self._keeping = asyncio.create_task(self._keep())

    async def _announce_first(self) -> None:
        """A swarm that has just been joined may not take a record at once: it is tried for some seconds."""
        for pause in (*ANNOUNCE_PAUSES, None):
            try:
                await self.peer.directory.announce(self._record(DonorState.ONLINE))
                return
            except SwarmError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def _measure(self) -> None:
        """What a step takes, while nothing else runs."""
        decode, prefill = await asyncio.to_thread(measure, self.model, self.pool)
        self.engine.speed = Speed()
        self.engine.speed.decode(decode, 1)
        self.engine.speed.prefill(prefill, 1)

    # Memory

    def _lend(self) -> None:
        """Lends as much cache as shortages, and the memory cap beside all that is there now, allow."""
        tokens = int(self.options.cache_tokens * self._part)
        if self.options.memory_cap:
            logs = self.sessions.places.free_log_bytes
            left = self.options.memory_cap - memory_used() - logs - STEP_BYTES
            tokens = min(tokens, self.pool.used_tokens + left // max(self.pool.token_bytes, 1))
        self.pool.limit(tokens)

    def _no_memory(self) -> None:
        """A step found none: its session has gone. Where that happens again and again, this donor takes
        and announces less."""
        now = time.monotonic()
        self._shortages = [at for at in self._shortages if now - at < SHORTAGE_SECONDS] + [now]
        if len(self._shortages) >= SHORTAGES:
            self._shortages.clear()
            self._part *= LESS
            self._lend()
            self.engine.prefill_rows = max(LEAST_ROWS, self.engine.prefill_rows // 2)
            self._announcer.update(self._record(self._state))

    def _watch_memory(self) -> None:
        """Gives up sessions before the cap is reached: whatever grows, the owner's word holds."""
        cap = self.options.memory_cap
        if not cap:
            return
        self._lend()
        if memory_used() < cap - MARGIN_BYTES:
            return
        free_unused()
        while memory_used() >= cap - MARGIN_BYTES:
            self.pool.limit(self.pool.used_tokens)
            if not self.sessions.places.shed():
                return
            free_unused()

    def cap_memory(self, cap: int) -> None:
        """Keep to another cap from now on."""
        self.options = replace(self.options, memory_cap=cap)
        self._lend()

    # Another span

    async def resize(self, span: Span, load: Callable[[Span], SpanModel], seconds: float) -> None:
        """Serves ``span`` from now on, without a pause for sessions that use only layers of both spans.
        ``load`` reads layers in a thread. Readers of layers that go have ``seconds`` to move. Raises what
        ``load`` raises; then it serves what both spans have in common."""
        kept = Span(max(span.start, self.model.span.start), min(span.end, self.model.span.end))
        if kept != self.model.span:
            await self._drop_to(kept, seconds)
        if span != kept:
            model = await asyncio.to_thread(self.model.resized, span, load)
            await self._adopt(model)

    async def _drop_to(self, span: Span, seconds: float) -> None:
        """The record comes first: readers who are told to move look at it, and take this donor anew for
        what it keeps."""
        self.sessions.opening.span = span
        self._started_at = time.time()
        with suppress(SwarmError, TimeoutError):
            async with asyncio.timeout(ANNOUNCE_SECONDS):
                await self.peer.directory.announce(self._record(self._state))
        self.sessions.announce_dropped(seconds)
        deadline = time.monotonic() + seconds
        while self.sessions.outside(span):
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(DRAIN_LOOK_SECONDS)
        self.sessions.drop_outside()
        await self._adopt(self.model.resized(span, _nothing_to_load))

    async def _adopt(self, model: SpanModel) -> None:
        async with self.engine.paused():
            self.pool.resize(model.span)
            self.model = self.engine.model = model
            self.sessions.opening.span = self.pinger.span = model.span
            if self._going == model.span:
                self._going = None
            await self._measure()
        free_unused()
        self._announcer.update(self._record(self._state))

    async def drain(self, seconds: float) -> None:
        """Leaves as planned: serves on while readers move, until none is left or the time is over."""
        if self._keeping is not None:
            self._keeping.cancel()
        with suppress(SwarmError, TimeoutError):
            async with asyncio.timeout(WITHDRAW_SECONDS):
                await self._announcer.withdraw()
        self.sessions.announce_leaving(seconds)
        deadline = time.monotonic() + seconds
        while len(self.sessions) and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_LOOK_SECONDS)
            self.sessions.places.sweep()
        await self.stop()

    async def stop(self) -> None:
        """Withdraws the record, gives up the sessions, ends the engine."""
        if self._keeping is not None:
            self._keeping.cancel()
        self.sessions.close()
        self.engine.close()
        await self.pinger.close()
        with suppress(SwarmError, TimeoutError):
            async with asyncio.timeout(WITHDRAW_SECONDS):
                await self._announcer.withdraw()

    async def _keep(self) -> None:
        """Tends the sessions, and tells the directory now and then what has changed."""
        while True:
            record = self._record(self._state)
            self._announcer.update(record)
            for second in range(UPDATE_SECONDS):
                await asyncio.sleep(1.0)
                self.sessions.places.sweep()
                self._watch_memory()
                if second >= NEWS_SECONDS and self._has_news(dict(record.near)):
                    break

    def _has_news(self, told: dict[str, float]) -> bool:
        """Whether what was told of the ways to the neighbours is no longer so."""
        now = dict(self.pinger.near)
        return now.keys() != told.keys() or any(abs(now[peer] - told[peer]) > NEWS_DELAY for peer in now)

    def _record(self, state: DonorState) -> Record:
        now = time.time()
        engine, speed = self.engine, self.engine.speed
        step = engine.with_rest(speed.decode_step)
        slowed = step / speed.decode_step if step else 1.0
        chunk = engine.with_rest(speed.prefill_row * engine.prefill_rows)
        return Record(
            peer_id=self.peer.peer_id,
            model=ref(self.model.config),
            span=self.sessions.opening.span,
            state=state,
            started_at=self._started_at,
            expires_at=now + 90,
            step_seconds=step,
            decode_rate=1 / (speed.decode_row * slowed) if speed.decode_row else 0.0,
            prefill_rate=engine.prefill_rows / chunk if chunk else 0.0,
            free_tokens=self.pool.free_tokens,
            log_bytes=self.sessions.places.free_log_bytes,
            quantization=self.model.quantization,
            wire=_wires(self.model.dtype),
            device=str(self.model.device),
            reach=self.peer.reach,
            addresses=self.peer.addresses,
            coordinate=self.pinger.coordinate.fields if self.pinger.knows else (),
            coordinate_error=self.pinger.coordinate.error if self.pinger.knows else 1.0,
            near=self.pinger.near,
            upload_rate=self.sessions.upload.rate,
            readers=self.sessions.table.readers,
            going=self._going,
            room=self.options.room,
            version=self.options.version,
        )


def _nothing_to_load(span: Span) -> SpanModel:
    raise AssertionError(f"{span} is not within what is held")


def memory_used() -> int:
    """Bytes of system memory that this process and its p2pd take. Mapped files are not counted: the
    system takes them back at will."""
    total = 0
    me = psutil.Process()
    for process in (me, *me.children()):
        with suppress(psutil.Error):
            found = process.memory_info()
            total += found.rss - getattr(found, "shared", 0)
    return total


def _wires(dtype: torch.dtype) -> tuple[WireDtype, ...]:
    """What a donor speaks, what it computes in first."""
    if dtype is torch.float32:
        return (WireDtype.FLOAT32, WireDtype.BFLOAT16, WireDtype.INT8)
    return (WireDtype.BFLOAT16, WireDtype.FLOAT32, WireDtype.INT8)
