"""The sessions of a donor: who may open one, whose frames are taken, what leaves for whom.

Everything here runs in the event loop. A control stream belongs to one client (its peer id is
authenticated); a lane stream to one neighbour. Rules of the ring are in ``core.ring``; this module
feeds it and carries out what it decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from core.errors import FrameError, Refused, SwarmError
from core.model.cache import CacheFull, CachePool, Slot
from core.model.config import ModelConfig
from core.model.sampling import History
from core.ring import (
    Ack,
    Action,
    Breach,
    Broken,
    Drawn,
    Frame,
    Grant,
    Lane,
    Part,
    Reserve,
    Reserved,
    Resume,
    Step,
    Truncate,
    Turn,
)
from core.serving.engine import Done, Drawing, Job
from core.serving.links import Link, LinkEvents, Links
from core.serving.propose import NgramProposer
from core.serving.upload import Upload
from core.swarm.messages import (
    WIRE,
    Close,
    Copy,
    Dtype,
    Header,
    Heard,
    Kind,
    Lease,
    Leaving,
    Message,
    Open,
    Probe,
    Pulse,
    Ready,
    Refuse,
    Standby,
    pack,
    pack_ack,
    pack_ids,
    pack_unknown,
    read_header,
    receive,
)
from core.swarm.peer import Peer, Stream, StreamClosed
from core.swarm.records import open_sealed
from core.terms import PeerId, Record, Span, WireDtype

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
IDLE_SECONDS = 600.0
ACK_SECONDS = 0.02
"""How long an acknowledgement may wait for others of its session to go with it."""
BUSY_SECONDS = 1.0
"""A session used so short a time ago is not idle."""
READER_SECONDS = 10.0
"""For so long after its last step a session counts as someone who reads."""
SKIP_LIMIT = 1 << 20
"""A frame for a session that is not here is read over up to this size, else its stream is closed."""


@dataclass(eq=False, slots=True)
class Held:
    """One session's part here with what it needs: cache, neighbours, the client."""

    client: PeerId
    control: Stream
    part: Part
    slot: Slot
    span: Span
    wire: Dtype
    max_length: int
    previous: PeerId
    following: PeerId
    on_this_pc: bool
    """The next stage is reached over loopback."""
    links: dict[Lane, Link]
    opened_at: float
    used_at: float
    history: History | None = None
    standby: list[Link] = field(default_factory=list)
    """Streams kept open to who would replace the next stage."""
    copying: Link | None = None
    """The stream to a replacement that is filled while the next stage still serves."""
    inbound: dict[Lane, Stream] = field(default_factory=dict)
    owed: set[Lane] = field(default_factory=set)
    parked: bool = False
    bulk_run: int = -1
    freed: bool = False


Key = tuple[bytes, int]


class Sessions:
    """All sessions of one donor. ``changed`` is called when a step may have become ready."""

    def __init__(
        self,
        peer: Peer,
        config: ModelConfig,
        span: Span,
        pool: CachePool,
        *,
        wires: Sequence[WireDtype],
        changed: Callable[[], None],
        speculate: bool = True,
        log_bytes: int = 1 << 30,
    ) -> None:
        self.peer, self.config, self.span, self.pool = peer, config, span, pool
        self.wires = tuple(wires)
        self.speculate = speculate
        self.log_bytes = log_bytes
        """Memory for logs of outputs, all sessions together."""
        self.leaving = False
        self.conversations = 0
        self._changed = changed
        self._held: dict[Key, Held] = {}
        self._heard: dict[PeerId, float] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._flush: asyncio.TimerHandle | None = None
        self._links = Links(
            peer, LinkEvents(self._acknowledged, self._unknown, self._redialled, self._unreachable)
        )

    def __len__(self) -> int:
        return len(self._held)

    @property
    def readers(self) -> int:
        """Sessions that were used a moment ago."""
        now = time.monotonic()
        return len({key[0] for key, held in self._held.items() if now - held.used_at < READER_SECONDS})

    @property
    def upload(self) -> Upload:
        return self._links.upload

    # The engine's side

    def waiting(self) -> Iterator[tuple[Held, Step]]:
        """Sessions whose next step may run, oldest first."""
        for held in self._held.values():
            if not held.parked and (step := held.part.ready) is not None:
                yield held, step

    def begin(self, held: Held, rows: int | None) -> Job:
        step = held.part.take(rows)
        drawing = None
        if held.part.wants_token(step) and held.part.turn is not None and held.history is not None:
            drawing = Drawing(held.part.turn.sampling, held.history, held.part.proposals(step))
        entry = held.part.stage == 0
        return Job(
            held,
            step,
            held.slot,
            held.span,
            Dtype.IDS if entry else held.wire,
            None if held.part.is_tail else held.wire,
            drawing,
        )

    def finished(self, results: Sequence[Done]) -> None:
        """Results of a batch: what leaves goes out at once, in the order of the batch."""
        now = time.monotonic()
        for done in results:
            held: Held = done.job.key  # type: ignore[assignment]
            step = done.job.step
            held.used_at = now
            if held.freed:
                self.pool.release(held.slot)
                continue
            if done.error:
                held.part.running = None
                self._perform(held, held.part.end(Breach.NONSENSE, done.error))
                continue
            current = step.rollback == held.part.rollback and not held.part.broken
            if held.history is not None and current:
                held.history.extend(token.token_id for token in done.tokens)
            self._perform(held, held.part.finish(step, done.payload, done.tokens))

    # Streams

    async def serve_control(self, stream: Stream) -> None:
        """One client's messages, until its stream ends. A bad message ends the stream, no more."""
        try:
            while True:
                self._message(stream, await receive(stream))
                self._changed()
        except StreamClosed:
            pass
        except FrameError as error:
            log.warning("a client was cut off: %s", error)

    async def serve_lane(self, stream: Stream, lane: Lane) -> None:
        """One neighbour's frames, until its stream ends."""
        try:
            while True:
                header = await read_header(stream)
                if header.kind is not Kind.FRAME or header.lane is not lane:
                    raise FrameError("a neighbour sent what does not belong on this stream")
                await self._frame(stream, header)
        except StreamClosed:
            pass
        except FrameError as error:
            log.warning("a neighbour was cut off: %s", error)

    async def _frame(self, stream: Stream, header: Header) -> None:
        held = self._held.get((header.session, header.stage))
        if held is None or held.previous != stream.remote or header.epoch != held.part.epoch:
            await self._read_over(stream, header)
            if held is None:
                stream.write(pack_unknown(header))
            return
        wrong = self._misfit(held, header)
        if wrong:
            await self._read_over(stream, header)
            self._perform(held, held.part.end(Breach.NONSENSE, wrong))
            return
        payload = await stream.read(header.length)
        held.inbound[header.lane] = stream
        self._deliver(held, header.frame(payload))

    async def _read_over(self, stream: Stream, header: Header) -> None:
        if header.length > SKIP_LIMIT:
            raise FrameError(f"a frame of {header.length} bytes for a session that is not here")
        await stream.read(header.length)

    def _misfit(self, held: Held, header: Header) -> str:
        """What is wrong with a frame's header for this session, judged before its payload is read."""
        ids = held.part.stage == 0
        dtype = Dtype.IDS if ids else held.wire
        width = 1 if ids else self.config.hidden
        if header.dtype is not dtype:
            return f"a frame came in {header.dtype.name.lower()} where {dtype.name.lower()} was agreed"
        if header.count < 1 or header.length != header.count * width * dtype.size:
            return f"a frame of {header.count} positions came with {header.length} bytes"
        if header.start + header.count > held.max_length:
            return f"position {header.start + header.count} is beyond the session's {held.max_length}"
        return ""

    def _deliver(self, held: Held, frame: Frame) -> None:
        """A frame whose header fits: its ids are checked, then the ring takes it."""
        if held.part.stage == 0:
            wrong = self._bad_id(memoryview(frame.payload).cast("i"))
            if wrong:
                self._perform(held, held.part.end(Breach.NONSENSE, wrong))
                return
        held.used_at = time.monotonic()
        self._perform(held, held.part.receive(frame))
        self._changed()

    def _bad_id(self, ids: Sequence[int]) -> str:
        if min(ids) < 0 or max(ids) >= self.config.vocab:
            return f"a token id is outside the vocabulary of {self.config.vocab}"
        return ""

    # Clients

    def _message(self, stream: Stream, message: Message) -> None:
        self._heard[stream.remote] = time.monotonic()
        if isinstance(message, Open):
            self._open_soon(stream, message)
            return
        if isinstance(message, Lease):
            self._unpark(stream.remote)
            with suppress(StreamClosed):
                stream.write(pack(Heard(message.number)))
            return
        if isinstance(message, Probe):
            self._tell_pulse(stream, message)
            return
        if isinstance(message, Heard):
            raise FrameError("a client sent what only donors say")
        for held in self._of(stream.remote, message.session):
            held.control = stream
            held.parked = False
            held.used_at = time.monotonic()
            self._for_part(held, message)

    def _tell_pulse(self, stream: Stream, probe: Probe) -> None:
        for held in self._of(stream.remote, probe.session):
            part = held.part
            if part.epoch == probe.epoch and not part.broken:
                running = part.running is not None
                pulse = Pulse(
                    probe.session, part.stage, part.epoch, probe.number, part.length, part.ran, running
                )
                self._tell(held, pulse)

    def _for_part(self, held: Held, message: Message) -> None:
        part = held.part
        match message:
            case Frame():
                self._prompt(held, message)
            case Turn():
                self._turn(held, message)
            case Resume():
                self._resume(held, message)
            case Reserve():
                self._perform(held, part.set_aside(message))
            case Grant():
                self._perform(held, part.grant(message))
            case Truncate():
                self._perform(held, part.truncate(message))
            case Copy() if message.epoch == part.epoch:
                self._in_task(self._copy(held, message))
            case Copy():
                pass
            case Standby() if message.epoch == part.epoch:
                self._in_task(self._warm(held, message.record))
            case Standby():
                pass
            case Close():
                self._free(held)
            case _:
                raise FrameError(f"a client sent a {type(message).__name__}")

    def _prompt(self, held: Held, frame: Frame) -> None:
        if held.part.stage != 0:
            return
        if frame.start + frame.count > held.max_length:
            self._perform(
                held, held.part.end(Breach.POSITION, f"the prompt is longer than {held.max_length} tokens")
            )
            return
        coded = replace(frame, lane=Lane.BULK, payload=pack_ids(frame.payload))
        self._deliver(held, coded)

    def _turn(self, held: Held, turn: Turn) -> None:
        if not held.part.is_tail:
            return
        wrong = self._bad_id(turn.ids)
        before = held.history.ids[: turn.start] if held.history is not None else []
        if not wrong and len(before) < turn.start:
            wrong = f"a turn begins at {turn.start} where {len(before)} tokens are known"
        if not wrong and not 0 <= turn.answer_from <= turn.end:
            wrong = f"an answer cannot begin at {turn.answer_from}"
        if wrong:
            self._perform(held, held.part.end(Breach.NONSENSE, wrong))
            return
        actions = held.part.begin(turn)
        if held.part.turn is turn:
            held.history = History([*before, *turn.ids], turn.answer_from)
            if self.speculate:
                held.part.proposer = NgramProposer(held.history.ids)
            self.conversations += turn.start == 0
        self._perform(held, actions)

    def _resume(self, held: Held, resume: Resume) -> None:
        """All stages of the epoch are open: what is left of the session from before has no place."""
        self._perform(held, held.part.resume(resume))
        for other in self._of(held.client, resume.session):
            if other.part.epoch < resume.epoch:
                self._free(other)

    def _of(self, client: PeerId, session: bytes) -> list[Held]:
        """A client's parts of a session here: a peer may be several stages of one route."""
        return [held for key, held in self._held.items() if key[0] == session and held.client == client]

    # Opening

    def _open_soon(self, stream: Stream, message: Open) -> None:
        """In a task of its own, since it may dial; the stream's other messages go on."""
        self._in_task(self._open(stream, message))

    def _in_task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _copy(self, held: Held, wanted: Copy) -> None:
        """Fills a replacement of the next stage; one that cannot be reached stays empty, which the
        client sees when it asks it."""
        with suppress(SwarmError):
            record = open_sealed(wanted.record, time.time())
            link = await self._links.open(record.peer_id, record.addresses, Lane.BULK)
            if held.freed or held.part.epoch != wanted.epoch:
                self._release({Lane.BULK: link})
                return
            held.copying = link
            self._perform(held, held.part.copy(wanted.into))

    async def _warm(self, held: Held, sealed: bytes) -> None:
        """Keeps streams open to a standby; that it cannot be reached is noticed when it is needed."""
        with suppress(SwarmError):
            record = open_sealed(sealed, time.time())
            links = await self._dial_lanes(record, (Lane.DECODE, Lane.BULK))
            self._release({link.lane: link for link in held.standby})
            held.standby = list(links.values())
            if held.freed:
                self._release(links)

    async def _open(self, stream: Stream, message: Open) -> None:
        key = (message.session, message.stage)
        answer: Message
        try:
            record = self._admit(stream.remote, message)
            links = await self._dial(message, record)
        except Refused as refusal:
            answer = Refuse(message.session, message.stage, message.epoch, refusal.kind, refusal.why[:300])
        else:
            answer = self._take(stream, key, message, links)
        with suppress(StreamClosed):
            stream.write(pack(answer))

    def _admit(self, client: PeerId, message: Open) -> Record | None:
        """Checks that this donor can be that stage; returns the record of the next one, unless that
        is this peer itself."""
        me = self.peer.peer_id
        held = self._held.get((message.session, message.stage))
        if self.leaving:
            raise Refused(me, "leaving", "it is leaving")
        if held is not None and held.client != client:
            raise Refused(me, "bad", "that session is another client's")
        if (message.model_id, message.revision) != (self.config.model_id, self.config.revision):
            raise Refused(me, "model", f"it serves {self.config.model_id} at {self.config.revision[:12]}")
        if message.span not in self.span or message.stage >= message.stages:
            raise Refused(me, "span", f"it serves layers {self.span.start} to {self.span.end - 1}")
        if (message.stage == 0) != (message.span.start == 0) or (message.stage == message.stages - 1) != (
            message.span.end == self.config.layers
        ):
            raise Refused(me, "span", "the first stage begins with words in, the last ends with words out")
        if message.wire not in self.wires:
            raise Refused(me, "wire", f"it does not speak {message.wire}")
        if message.max_length > self.config.max_length:
            raise Refused(me, "bad", f"the model holds {self.config.max_length} tokens")
        return self._next_record(message)

    def _next_record(self, message: Open) -> Record | None:
        if not message.following:
            return None
        try:
            return open_sealed(message.following, time.time())
        except SwarmError as error:
            raise Refused(
                self.peer.peer_id, "bad", f"the next stage's record is not right: {error}"
            ) from error

    async def _dial(self, message: Open, following: Record | None) -> dict[Lane, Link]:
        if following is None or following.peer_id == self.peer.peer_id:
            return {}
        tail = message.stage == message.stages - 1
        try:
            return await self._dial_lanes(following, (Lane.DECODE,) if tail else (Lane.DECODE, Lane.BULK))
        except SwarmError as error:
            raise Refused(self.peer.peer_id, "unreachable", str(error)) from error

    async def _dial_lanes(self, record: Record, lanes: Sequence[Lane]) -> dict[Lane, Link]:
        links: dict[Lane, Link] = {}
        try:
            for lane in lanes:
                links[lane] = await self._links.open(record.peer_id, record.addresses, lane)
        except SwarmError:
            self._release(links)
            raise
        return links

    def _take(self, stream: Stream, key: Key, message: Open, links: dict[Lane, Link]) -> Message:
        """The session is this donor's from here on, in the epoch of the message."""
        here = self._held.get(key)
        if here is not None and here.part.epoch >= message.epoch:
            self._release(links)
            return Ready(message.session, message.stage, here.part.epoch, here.part.standing)
        before = self._same_layers(stream.remote, message)
        slot = before.slot if before is not None else self._slot()
        if slot is None:
            self._release(links)
            return Refuse(message.session, message.stage, message.epoch, "full", "all its places are taken")
        part = self._part(message, slot, before.part if before is not None else None)
        if before is not None:
            self._supersede(before)
        if here is not None and here is not before:
            self._free(here)
        following = next(iter(links.values())).remote if links else self.peer.peer_id
        loopback = bool(links) and all(
            address.startswith("/ip4/127.") for link in links.values() for address in link.addresses
        )
        now = time.monotonic()
        self._held[key] = Held(
            client=stream.remote,
            control=stream,
            part=part,
            slot=slot,
            span=message.span,
            wire=WIRE[message.wire],
            max_length=message.max_length,
            previous=message.previous,
            following=following,
            on_this_pc=loopback,
            links=links,
            opened_at=before.opened_at if before is not None else now,
            used_at=now,
            history=before.history if before is not None else None,
        )
        return Ready(message.session, message.stage, message.epoch, part.standing)

    def _supersede(self, before: Held) -> None:
        """A part of an earlier epoch ends; its cache and its log go on in the next."""
        before.part.end(Breach.LAPSED, "a new epoch has begun")
        self._let_go(before)
        del self._held[before.part.session, before.part.stage]

    def _same_layers(self, client: PeerId, message: Open) -> Held | None:
        """The session's part from an earlier epoch that held the same layers, perhaps as another stage:
        the route has changed around it."""
        for held in self._of(client, message.session):
            if held.span == message.span and held.part.epoch < message.epoch:
                return held
        return None

    def _part(self, message: Open, slot: Slot, before: Part | None) -> Part:
        def reserve(upto: int) -> bool:
            return upto <= message.max_length and self._reserve(slot, upto)

        return Part(
            message.session,
            message.stage,
            message.stages,
            message.epoch,
            reserve,
            rollback=message.rollback,
            before=before,
        )

    def _slot(self) -> Slot | None:
        """A place for a new session, at the cost of an idle one if need be."""
        while True:
            try:
                return self.pool.open()
            except CacheFull:
                if not self._evict(None):
                    return None

    def _reserve(self, slot: Slot, upto: int) -> bool:
        while not self.pool.reserve(slot, upto):
            if not self._evict(slot):
                return False
        return True

    def _evict(self, sparing: Slot | None) -> bool:
        """Frees the idle session that was used longest ago, parked ones first."""
        idle = [held for held in self._held.values() if held.slot is not sparing and self._is_idle(held)]
        if not idle:
            return False
        held = min(idle, key=lambda held: (not held.parked, held.used_at))
        self._perform(held, held.part.end(Breach.LAPSED, "its cache was needed by others"))
        self._free(held)
        return True

    @staticmethod
    def _is_idle(held: Held) -> bool:
        busy = held.part.running is not None or held.part.queue
        return not busy and (held.parked or time.monotonic() - held.used_at >= BUSY_SECONDS)

    # What leaves

    def _perform(self, held: Held, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Frame():
                    self._forward(held, action)
                case Ack():
                    self._acknowledge(held, action)
                case Drawn() | Reserved() | Broken():
                    self._tell(held, action)

    def _forward(self, held: Held, frame: Frame) -> None:
        dtype = held.wire
        if held.part.is_tail:
            dtype = Dtype.IDS
            frame = replace(frame, payload=pack_ids(frame.payload))
        if frame.epoch != held.part.epoch:
            if held.copying is not None:
                held.copying.send(frame, dtype)
            return
        if held.following != self.peer.peer_id:
            held.links[frame.lane].send(frame, dtype)
            return
        target = self._held.get((frame.session, frame.stage))
        if target is not None:
            asyncio.get_running_loop().call_soon(self._deliver, target, frame)

    def _acknowledge(self, held: Held, ack: Ack) -> None:
        """Chunks are acknowledged at once when they were run, since the sender's window waits for
        it; the rest a little later, together."""
        if ack.lane is Lane.BULK and ack.run != held.bulk_run:
            held.bulk_run = ack.run
            held.owed.discard(Lane.BULK)
            self._send_ack(held, ack)
            return
        held.owed.add(ack.lane)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(ACK_SECONDS, self._flush_acks)

    def _flush_acks(self) -> None:
        self._flush = None
        for held in self._held.values():
            for lane in held.owed:
                self._send_ack(held, held.part.acknowledgement(lane))
            held.owed.clear()

    def _send_ack(self, held: Held, ack: Ack) -> None:
        if held.part.stage == 0 and ack.lane is Lane.BULK:
            self._tell(held, ack)
        elif held.previous == self.peer.peer_id:
            sender = self._held.get((ack.session, (ack.stage - 1) % held.part.stages))
            if sender is not None:
                self._perform(sender, sender.part.acknowledge(ack))
        elif (stream := held.inbound.get(ack.lane)) is not None:
            with suppress(StreamClosed):
                stream.write(pack_ack(ack))

    def _tell(self, held: Held, message: Message) -> None:
        if isinstance(message, Broken):
            log.info("a session ended: %s", message.why)
        with suppress(StreamClosed):  # a client that is gone misses nothing: its lease runs out
            held.control.write(pack(message))

    # What links tell

    def _acknowledged(self, remote: PeerId, ack: Ack) -> None:
        for held in self._senders(remote, ack.session):
            if held.part.next_stage == ack.stage:
                self._perform(held, held.part.acknowledge(ack))
        self._changed()

    def _unknown(self, remote: PeerId, header: Header) -> None:
        for held in self._senders(remote, header.session):
            if held.part.next_stage == header.stage and held.part.epoch == header.epoch:
                why = "the next stage does not know the session"
                self._perform(held, held.part.end(Breach.UNREACHABLE, why))

    def _redialled(self, remote: PeerId, lane: Lane) -> None:
        for held in self._senders(remote):
            if held.following == remote and lane in held.links:
                self._perform(held, held.part.again(lane))

    def _unreachable(self, remote: PeerId, lane: Lane, why: str) -> None:
        for held in self._senders(remote):
            if held.following == remote and lane in held.links:
                self._perform(held, held.part.end(Breach.UNREACHABLE, why[:300]))

    def _senders(self, remote: PeerId, session: bytes | None = None) -> list[Held]:
        return [
            held
            for key, held in self._held.items()
            if (session is None or key[0] == session)
            and (held.following == remote or (held.copying is not None and held.copying.remote == remote))
        ]

    # Leases and ends

    def sweep(self) -> None:
        """Once a second: parks what has no lease, frees what has been idle for long."""
        now = time.monotonic()
        for held in list(self._held.values()):
            if now - self._heard.get(held.client, 0.0) > LEASE_SECONDS:
                held.parked = True
            if now - held.used_at > IDLE_SECONDS:
                self._perform(held, held.part.end(Breach.LAPSED, "it was idle for ten minutes"))
                self._free(held)
        clients = {held.client for held in self._held.values()}
        self._heard = {
            client: at for client, at in self._heard.items() if client in clients or now - at < LEASE_SECONDS
        }
        self._links.sweep(now)
        self._trim_logs()

    def gathers(self) -> bool:
        """Whether this is an entry whose next stages run on this same PC: they share its cores, so that
        one large batch after the other is better than many small ones at once."""
        return any(
            held.part.stage == 0 and held.on_this_pc and not held.part.broken for held in self._held.values()
        )

    @property
    def free_log_bytes(self) -> int:
        return max(self.log_bytes - sum(held.part.log.size for held in self._held.values()), 0)

    def _trim_logs(self) -> None:
        """Keeps the logs under their cap: those go first whose sessions were idle longest. What is
        missing then is computed again when it is needed."""
        used = sum(held.part.log.size for held in self._held.values())
        for held in sorted(self._held.values(), key=lambda held: held.used_at):
            if used <= self.log_bytes:
                return
            used -= held.part.log.size
            held.part.log.clear(held.part.log.end)

    def announce_leaving(self, seconds: float) -> None:
        """Takes no new sessions, and tells the clients of those that are there to move."""
        self.leaving = True
        for held in self._held.values():
            self._tell(held, Leaving(held.part.session, held.part.stage, held.part.epoch, int(seconds)))

    def close(self) -> None:
        """Gives up all sessions, telling their clients."""
        self.leaving = True
        for held in list(self._held.values()):
            self._perform(held, held.part.end(Breach.LEAVING, "the donor is leaving"))
            self._free(held)
        self._links.close()

    def _unpark(self, client: PeerId) -> None:
        for held in self._held.values():
            if held.client == client:
                held.parked = False

    def _free(self, held: Held) -> None:
        key = (held.part.session, held.part.stage)
        if self._held.get(key) is not held:
            return
        del self._held[key]
        self._let_go(held)
        held.part.end(Breach.LAPSED, "")
        held.freed = True
        if held.part.running is None:  # else the engine still writes there, and ``finished`` frees it
            self.pool.release(held.slot)

    def _let_go(self, held: Held) -> None:
        self._release(held.links)
        for link in (*held.standby, *([held.copying] if held.copying else [])):
            self._links.release(link, time.monotonic())
        held.standby, held.copying = [], None

    def _release(self, links: dict[Lane, Link]) -> None:
        for link in links.values():
            self._links.release(link, time.monotonic())
