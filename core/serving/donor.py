"""A donor: a span of a model served to a swarm, whatever the process and the network around it.

It announces *joining*, serves, measures itself, keeps its record fresh, and announces *leaving*.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch

from core.errors import SwarmError
from core.model.cache import CachePool
from core.model.config import ref
from core.model.span import SpanModel
from core.ring.frames import Lane
from core.serving.engine import Engine
from core.serving.measure import measure
from core.serving.sessions import Sessions
from core.swarm.codec import CONTROL
from core.swarm.frames import LANES
from core.swarm.peer import Peer
from core.swarm.pinger import Pinger
from core.swarm.watch import Announcer
from core.terms import DonorState, Record, WireDtype

UPDATE_SECONDS = 20
"""How often the record is made anew from what was measured since."""
NEWS_SECONDS = 3
"""Sooner where the way to its neighbours has become known, or has changed by more than"""
NEWS_DELAY = 0.005
"""seconds; but no sooner than this."""
WITHDRAW_SECONDS = 2.0
DRAIN_LOOK_SECONDS = 0.1


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
            speculate=options.speculate,
            log_bytes=options.log_bytes,
        )
        self.engine = Engine(
            model,
            self.pool,
            waiting=self.sessions.waiting,
            begin=self.sessions.begin,  # type: ignore[arg-type]
            finished=self.sessions.finished,
            gathers=self.sessions.gathers,
            rest=options.rest,
        )
        self.pinger = Pinger(peer, ref(config), model.span)
        self.sessions.upload.round_trip = self.pinger.round_trip
        self._announcer = Announcer(peer.directory)
        self._keeping: asyncio.Task[None] | None = None
        self._started_at = time.time()

    def _changed(self) -> None:
        self.engine.kick()

    async def start(self) -> None:
        """Returns when the donor serves and its record is stored. Raises ``SwarmError`` when no peer
        of the swarm takes the record."""
        decode, prefill = await asyncio.to_thread(measure, self.model, self.pool)
        self.engine.speed.decode(decode, 1)
        self.engine.speed.prefill(prefill, 1)
        await self.peer.serve(CONTROL, self.sessions.clients.serve_control)
        for lane in Lane:
            await self.peer.serve(LANES[lane], partial(self.sessions.incoming.serve_lane, lane=lane))
        await self.peer.directory.announce(self._record(DonorState.ONLINE))
        self.pinger.start()
        self._keeping = asyncio.create_task(self._keep())

    async def drain(self, seconds: float) -> None:
        """Leaves as planned: serves on while readers move, until none is left or the time is over."""
        if self._keeping is not None:
            self._keeping.cancel()
        with suppress(SwarmError, TimeoutError):
            await asyncio.wait_for(self._announcer.withdraw(), WITHDRAW_SECONDS)
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
            await asyncio.wait_for(self._announcer.withdraw(), WITHDRAW_SECONDS)

    async def _keep(self) -> None:
        """Tends the sessions, and tells the directory now and then what has changed."""
        while True:
            record = self._record(DonorState.ONLINE)
            self._announcer.update(record)
            for second in range(UPDATE_SECONDS):
                await asyncio.sleep(1.0)
                self.sessions.places.sweep()
                if second >= NEWS_SECONDS and self._has_news(dict(record.near)):
                    break

    def _has_news(self, told: dict[str, float]) -> bool:
        """Whether what was told of the ways to the neighbours is no longer so."""
        now = dict(self.pinger.near)
        return now.keys() != told.keys() or any(abs(now[peer] - told[peer]) > NEWS_DELAY for peer in now)

    def _record(self, state: DonorState) -> Record:
        now = time.time()
        speed = self.engine.speed
        return Record(
            peer_id=self.peer.peer_id,
            model=ref(self.model.config),
            span=self.model.span,
            state=state,
            started_at=self._started_at,
            expires_at=now + 90,
            step_seconds=speed.decode_step,
            decode_rate=1 / speed.decode_row if speed.decode_row else 0.0,
            prefill_rate=1 / speed.prefill_row if speed.prefill_row else 0.0,
            free_tokens=self.pool.free_tokens,
            log_bytes=self.sessions.places.free_log_bytes,
            wire=_wires(self.model.dtype),
            device=str(self.model.device),
            addresses=self.peer.addresses,
            coordinate=self.pinger.coordinate.fields if self.pinger.knows else (),
            coordinate_error=self.pinger.coordinate.error if self.pinger.knows else 1.0,
            near=self.pinger.near,
            upload_rate=self.sessions.upload.rate,
            readers=self.sessions.table.readers,
            version=self.options.version,
        )


def _wires(dtype: torch.dtype) -> tuple[WireDtype, ...]:
    """What a donor speaks, what it computes in first."""
    if dtype is torch.float32:
        return (WireDtype.FLOAT32, WireDtype.BFLOAT16)
    return (WireDtype.BFLOAT16, WireDtype.FLOAT32)
