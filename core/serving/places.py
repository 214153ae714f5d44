"""Room for sessions: places in the cache, memory for logs, and who gives way when either is short."""

from __future__ import annotations

import time
from collections import Counter

from core.model.cache import CacheFull, CachePool, Slot
from core.ring.frames import Breach, Lane
from core.serving.held import Held, Table
from core.serving.links import Link
from core.serving.outgoing import Outgoing
from core.terms import PeerId

LEASE_SECONDS = 15.0
IDLE_SECONDS = 600.0
BUSY_SECONDS = 1.0
"""A session used so short a time ago is not idle."""


class Places:
    """Of the sessions in ``table``, over ``pool``; ``log_bytes`` of memory are for logs of outputs, all
    sessions together."""

    def __init__(self, table: Table, pool: CachePool, outgoing: Outgoing, log_bytes: int) -> None:
        self.table, self.pool, self.outgoing, self.log_bytes = table, pool, outgoing, log_bytes
        self._heard: dict[PeerId, float] = {}

    def heard(self, client: PeerId) -> None:
        """A client is alive."""
        self._heard[client] = time.monotonic()

    @property
    def free_log_bytes(self) -> int:
        return max(self.log_bytes - sum(held.part.log.size for held in self.table), 0)

    def slot(self, client: PeerId) -> Slot | None:
        """A place for a new session of this client, at the cost of an idle one if need be. One client may
        take all places, but where another finds none, who has most gives one back: none keeps others out."""
        while True:
            try:
                return self.pool.open()
            except CacheFull:
                if not self._evict(self._idle(None)) and not self._richest_gives_way(client):
                    return None

    def reserve(self, slot: Slot, upto: int) -> bool:
        """Cache for a session's positions below ``upto``. Idle sessions give way first, then the youngest of
        those that are not: in an order that all stages share, so that two never wait for each other."""
        while not self.pool.reserve(slot, upto):
            if not self._evict(self._idle(slot)) and not self._youngest_gives_way(slot):
                return False
        return True

    def _richest_gives_way(self, client: PeerId) -> bool:
        """Ends the youngest session of the client that has most, if that is more than this one will have."""
        counts = Counter(held.client for held in self.table)
        richest = max(counts, key=lambda other: counts[other], default=client)
        if counts[richest] <= counts[client] + 1:
            return False
        able = [held for held in self.table if held.client == richest and held.part.running is None]
        return self._gives_way(able, "another reader found no place")

    def _idle(self, sparing: Slot | None) -> list[Held]:
        return [held for held in self.table if held.slot is not sparing and self._is_idle(held)]

    def _youngest_gives_way(self, slot: Slot) -> bool:
        """``False`` where that is the one that asks, or a step of it is being run."""
        youngest = max(self.table, key=lambda held: (held.opened_at, held.part.session), default=None)
        if youngest is None or youngest.slot is slot or youngest.part.running is not None:
            return False
        return self._gives_way([youngest], "an older session needed its cache")

    def _gives_way(self, able: list[Held], why: str) -> bool:
        """Ends the youngest of these; its reader has it rebuilt elsewhere, or here when there is room."""
        held = max(able, key=lambda held: (held.opened_at, held.part.session), default=None)
        if held is None:
            return False
        self.outgoing.perform(held, held.part.end(Breach.FULL, why))
        self.free(held)
        return True

    def _evict(self, idle: list[Held]) -> bool:
        """Frees the one of these that was used longest ago, parked ones first; whether there was one."""
        if not idle:
            return False
        held = min(idle, key=lambda held: (not held.parked, held.used_at))
        self.outgoing.perform(held, held.part.end(Breach.LAPSED, "its cache was needed by others"))
        self.free(held)
        return True

    def shed(self) -> bool:
        """Gives up the session that was used longest ago, whoever reads it; whether there was one that
        no step runs of."""
        able = [held for held in self.table if held.part.running is None]
        if not able:
            return False
        held = min(able, key=lambda held: (not held.parked, held.used_at))
        self.outgoing.perform(held, held.part.end(Breach.FULL, "this donor is short of memory"))
        self.free(held)
        return True

    @staticmethod
    def _is_idle(held: Held) -> bool:
        busy = held.part.running is not None or held.part.queue
        return not busy and (held.parked or time.monotonic() - held.used_at >= BUSY_SECONDS)

    def sweep(self) -> None:
        """Once a second: parks what has no lease, frees what has been idle for long."""
        now = time.monotonic()
        for held in self.table:
            if now - self._heard.get(held.client, 0.0) > LEASE_SECONDS:
                held.parked = True
            if now - held.used_at > IDLE_SECONDS:
                self.outgoing.perform(held, held.part.end(Breach.LAPSED, "it was idle for ten minutes"))
                self.free(held)
        clients = {held.client for held in self.table}
        self._heard = {
            client: at for client, at in self._heard.items() if client in clients or now - at < LEASE_SECONDS
        }
        self.outgoing.links.sweep(now)
        self.trim_logs()

    def trim_logs(self) -> None:
        """Keeps the logs under their cap: those go first whose sessions were idle longest. What is
        missing then is computed again when it is needed."""
        used = sum(held.part.log.size for held in self.table)
        for held in sorted(self.table, key=lambda held: held.used_at):
            if used <= self.log_bytes:
                return
            used -= held.part.log.size
            held.part.log.clear(held.part.log.end)

    def unpark(self, client: PeerId) -> None:
        for held in self.table:
            if held.client == client:
                held.parked = False

    def free(self, held: Held) -> None:
        if not self.table.remove(held):
            return
        self.let_go(held)
        held.part.end(Breach.LAPSED, "")
        held.freed = True
        self.pool.release(held.slot)

    def let_go(self, held: Held) -> None:
        self.release(held.links)
        for link in (*held.standby, *([held.copying] if held.copying else [])):
            self.outgoing.links.release(link, time.monotonic())
        held.standby, held.copying = [], None
        if held.ahead is not None:
            self.release(held.ahead.links)
            held.ahead = None

    def release(self, links: dict[Lane, Link]) -> None:
        for link in links.values():
            self.outgoing.links.release(link, time.monotonic())
