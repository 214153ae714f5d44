"""A worker's bytes held to the owner's caps: what its streams pass on, and what its connections carry.

Answers' steps are never delayed. Prompts wait, and are sent in smaller pieces under a low cap, so that a step
never stands behind much of one. New sessions are turned away while answers alone use up a cap. What stays on
this PC, and the owner's own chats, are not held up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from core.meter import OVERHEAD, Caps, Throttle, Traffic, Urgency, cap_of
from core.serving.upload import Carried
from core.swarm.traffic import Gauge
from core.terms import PeerId

LOOK_SECONDS = 0.25
SMALLEST_PIECE, LARGEST_PIECE = 4 << 10, 64 << 10
PIECE_SECONDS = 0.02
"""A piece of a prompt is no larger than what the cap lets through in so long."""
CROWDED = 0.8
"""Where answers alone take this part of a cap, no further session is taken."""
AUTO_PART = 0.5
"""Of the upload that was measured, without a cap of the owner's."""
FAMILIAR_SECONDS = 5.0
SILENT_RATE = 8_000
"""Bytes a second beside answers' steps that are no prompt: acknowledgements, pings, what TCP tries again."""


class Metering:
    """Belongs to one event loop. ``measured`` tells the upload in bytes a second, 0 while it is not known;
    ``pid`` the process whose connections count. ``wire`` is told what has arrived at the other ends, in how
    many seconds."""

    def __init__(
        self,
        measured: Callable[[], float] = lambda: 0.0,
        wire: Callable[[Carried], None] = lambda _carried: None,
    ) -> None:
        self.up, self.down = Throttle(), Throttle()
        self.pid: Callable[[], int | None] = lambda: None
        self.owner: PeerId | None = None
        """The node of this PC, whose chats are counted and not held up."""
        self._measured, self._wire, self._caps = measured, wire, Caps()
        self._gauge = Gauge()
        self._urgent = Traffic()
        self._urgent_rates = (0.0, 0.0)
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._looking = asyncio.create_task(self._keep(), name="meter")

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    def hold(self, caps: Caps) -> None:
        """From now on."""
        self._caps = caps
        self._set_rates()

    @property
    def carried(self) -> Traffic:
        """All bytes on the wire since the beginning, as the kernel counts them."""
        return self._gauge.total

    @property
    def crowded(self) -> bool:
        """Whether answers alone use up what the owner allows."""
        caps = (self.up.limit.rate, self.down.limit.rate)
        return any(
            cap is not None and rate > CROWDED * cap
            for cap, rate in zip(caps, self._urgent_rates, strict=True)
        )

    # What streams call

    def sends_step(self, count: int) -> None:
        """A step of an answer leaves, now."""
        self._urgent += Traffic(up=count)
        self.up.limit.passed(count, time.monotonic())

    def takes_step(self, count: int) -> None:
        self._urgent += Traffic(down=count)
        self.down.limit.passed(count, time.monotonic())

    async def sends_bulk(self, count: int) -> None:
        """A piece of a prompt has left; returns when the next may."""
        await self.up.take(count, Urgency.PREFILL)

    async def takes_bulk(self, count: int) -> None:
        await self.down.take(count, Urgency.PREFILL)

    @property
    def piece(self) -> int:
        """Bytes of a prompt to be sent at once."""
        rate = self.up.limit.rate
        if rate is None:
            return LARGEST_PIECE
        return int(min(max(rate * PIECE_SECONDS, SMALLEST_PIECE), LARGEST_PIECE))

    # What the wire tells

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look(LOOK_SECONDS)

    async def look(self, seconds: float) -> None:
        """``seconds`` after the last look."""
        before, pid = self._gauge.total, self.pid()
        if pid is not None:
            arrived = self._gauge.arrived
            new = await asyncio.to_thread(self._gauge.look, pid) - before
            now = time.monotonic()
            self.up.limit.carried(new.up, now)
            self.down.limit.carried(new.down, now)
            if self._gauge.total.up:
                silent = new.up - OVERHEAD * self._urgent.up < SILENT_RATE * seconds
                self._wire(Carried(self._gauge.arrived - arrived, seconds, silent, now))
        part = min(seconds / FAMILIAR_SECONDS, 1.0)
        up, down = self._urgent_rates
        new_rates = (self._urgent.up / seconds, self._urgent.down / seconds)
        self._urgent_rates = (up + part * (new_rates[0] - up), down + part * (new_rates[1] - down))
        self._urgent = Traffic()
        self._set_rates()

    def _set_rates(self) -> None:
        upload = cap_of(self._caps.upload)
        if upload is None and (measured := self._measured()):
            upload = AUTO_PART * measured
        self.up.limit.rate, self.down.limit.rate = upload, cap_of(self._caps.download)


def on_this_pc(addresses: Sequence[str]) -> bool:
    """Whether a peer can only be reached on this PC."""
    return bool(addresses) and all(address.startswith("/ip4/127.") for address in addresses)
