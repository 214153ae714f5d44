"""The sessions of a donor: what its engine runs, and the ends of all.

Everything here runs in the event loop. The rules of the ring are in ``core.ring``. ``Incoming`` checks what
neighbours send, ``Clients`` what clients say, ``Opening`` who may begin; ``Outgoing`` carries out what the
ring decides, and ``Places`` keeps room. All share one ``Table`` of what is held.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

from core.meter import Traffic
from core.model.cache import CachePool
from core.model.config import ModelConfig
from core.ring.frames import Breach, Lane
from core.ring.part import Step
from core.serving.clients import Clients
from core.serving.held import Held, Table
from core.serving.incoming import Incoming
from core.serving.jobs import Done, Drawing, Job
from core.serving.opening import Opening
from core.serving.places import Places
from core.serving.upload import Upload
from core.swarm.frames import Dtype
from core.swarm.messages import Leaving
from core.swarm.peer import Peer
from core.terms import PeerId, Span, WireDtype

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Sessions:
    """All sessions of one donor. ``changed`` is called when a step may have become ready; ``log_bytes`` of
    memory hold logs of outputs, all sessions together."""

    def __init__(
        self,
        peer: Peer,
        config: ModelConfig,
        span: Span,
        pool: CachePool,
        *,
        wires: Sequence[WireDtype],
        changed: Callable[[], None],
        no_memory: Callable[[], None] = lambda: None,
        speculate: bool = True,
        log_bytes: int = 1 << 30,
    ) -> None:
        self.pool = pool
        self.conversations = 0
        """Whose answers were run here, at least in part."""
        self.table = Table()
        self.incoming = Incoming(peer, config, self.table, changed)
        self.outgoing = self.incoming.outgoing
        self.places = Places(self.table, pool, self.outgoing, log_bytes)
        self.opening = Opening(peer, config, span, wires, self.places)
        self.incoming.enter = self.opening.enter
        self.clients = Clients(self.incoming, self.opening, changed=changed, speculate=speculate)
        self._no_memory = no_memory

    def __len__(self) -> int:
        return len(self.table)

    @property
    def upload(self) -> Upload:
        return self.outgoing.links.upload

    @property
    def traffic(self) -> Traffic:
        """Bytes of frames and of words to clients."""
        return Traffic(self.outgoing.sent_bytes, self.incoming.taken_bytes)

    # The engine's side

    def waiting(self) -> Iterator[tuple[Held, Step]]:
        """Sessions whose next step may run, oldest first."""
        for held in self.table:
            if not held.parked and (step := held.part.ready) is not None:
                yield held, step

    def begin(self, held: Held, rows: int | None) -> Job:
        step = held.part.take(rows)
        self.pool.begin_step(held.slot)
        drawing = None
        if held.part.wants_token(step) and held.part.turn is not None and held.history is not None:
            drawing = Drawing(held.part.turn.sampling, held.history, held.part.proposals(step))
        entry = held.part.stage == 0
        coded = held.dtype_of(len(step.payload) // (step.rows or step.count), step.lane)
        narrow = held.narrow and step.lane is Lane.BULK and (entry or coded is Dtype.INT8)
        return Job(
            held,
            step,
            held.slot,
            held.span,
            Dtype.IDS if entry else coded,
            None if held.part.is_tail else Dtype.INT8 if narrow else held.wire,
            drawing,
        )

    def finished(self, results: Sequence[Done]) -> None:
        """Results of a batch: what leaves goes out at once, in the order of the batch."""
        now = time.monotonic()
        for done in results:
            held: Held = done.job.key  # type: ignore[assignment]
            step = done.job.step
            held.used_at = now
            self.pool.end_step(held.slot)
            if step.lane is Lane.DECODE and not held.answered and not done.error:
                held.answered = True
                self.conversations += 1
            if held.freed:
                continue
            if done.error:
                held.part.running = None
                self.outgoing.perform(held, held.part.end(_breach(done), done.error))
                if done.no_memory:
                    self.places.free(held)
                    self._no_memory()
                continue
            current = step.rollback == held.part.rollback and not held.part.broken
            if held.history is not None and current:
                held.history.extend(token.token_id for token in done.tokens)
            self.outgoing.perform(held, held.part.finish(step, done.payload, done.tokens))

    # Ends

    def serve_only(self, client: PeerId | None) -> None:
        """Gives up the sessions of all but this client, and takes no others; ``None``: of all again."""
        self.opening.only = client
        for held in self.table:
            if client is not None and held.client != client:
                self.outgoing.perform(held, held.part.end(Breach.LEAVING, "the donor's owner is back"))
                self.places.free(held)

    def parts(self) -> int:
        """Into how many batches the sessions shall fall, 0 for any. At an entry whose next stages run on
        this same PC: as many as its cores can run at once. More would be smaller, and cost nearly as much."""
        stages = [
            held.part.stages
            for held in self.table
            if held.part.stage == 0 and held.on_this_pc and not held.part.broken
        ]
        return min(CORES, max(stages)) if stages else 0

    # Fewer layers

    def outside(self, span: Span) -> list[Held]:
        """Sessions that use a layer which is not in ``span``."""
        return [held for held in self.table if held.span not in span]

    def announce_dropped(self, seconds: float) -> None:
        """Tells the clients of sessions that use layers which are dropped to move."""
        for held in self.outside(self.opening.span):
            self._tell_to_leave(held, seconds)

    def drop_outside(self) -> None:
        """Gives up the sessions that have not moved off layers that are dropped."""
        for held in self.outside(self.opening.span):
            self.outgoing.perform(held, held.part.end(Breach.LEAVING, "the donor serves fewer layers now"))
            self.places.free(held)

    def announce_leaving(self, seconds: float) -> None:
        """Takes no new sessions, and tells the clients of those that are there to move."""
        self.opening.leaving = True
        for held in self.table:
            self._tell_to_leave(held, seconds)

    def _tell_to_leave(self, held: Held, seconds: float) -> None:
        part = held.part
        self.outgoing.tell(held, Leaving(part.session, part.stage, part.epoch, int(seconds)))

    def close(self) -> None:
        """Gives up all sessions, telling their clients."""
        self.opening.leaving = True
        for held in self.table:
            self.outgoing.perform(held, held.part.end(Breach.LEAVING, "the donor is leaving"))
            self.places.free(held)
        self.outgoing.links.close()


def _breach(done: Done) -> Breach:
    """What a step that failed says of this donor."""
    if done.lost:  # it comes back by itself
        return Breach.LEAVING
    return Breach.FULL if done.no_memory else Breach.INPUT if done.bad_input else Breach.NONSENSE
