"""The rules that keep a ring of donors right, without sockets, clocks or tensors.

A session travels around a ring: the client sends the prompt's token ids to the entry in chunks, each
stage runs them and forwards its outputs to the next, the tail draws a token, tells the client, and
sends it to the entry as the next step. ``Part`` is one stage's part of one session, ``Client`` the
reader's side. Both are fed messages and return actions; who carries them is not their business.

What holds, whatever the network does:

* A frame of another *epoch* is dropped. The client alone raises the epoch, and resumes when every
  stage has acknowledged it, telling it what it holds: positions run, and from where its log goes.
* A stage keeps a *log* of its outputs. When the next stage is replaced, the log is replayed straight
  into the replacement, as ordinary steps: all is computed and logged there, and only what its own
  successor lacks is sent on (*emit from*).
* *Hop* numbers count the frames between two neighbours, per lane, from 0 in each epoch, without gaps:
  one already seen is dropped, a gap ends the stage's part.
* Only a higher *rollback* count truncates; a frame with a lower one is skipped; a start beyond the
  cache's end is refused.
* A receiver acknowledges *received* at once and *run* later; at most ``BULK_WINDOW`` prefill chunks
  of a session are unrun between two neighbours.
* The tail may *propose* the tokens that follow the one it drew; they travel as one step and are judged
  when it comes around: one is accepted if and only if it equals the token drawn at its position. What
  follows a wrong one is truncated by the tail's own, finer rollback count.
* *Credit* is an absolute position: the tail sends no position into the ring that the client has not
  had reserved at every stage.
* Two steps of one session are never under way at once.

Positions are absolute: position p is the p-th token of the session. Running position p - 1 yields the
distribution that token p is drawn from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any, Protocol

from core.terms import Finish, Sampling, Token

BULK_WINDOW = 2
"""Prefill chunks of a session that a neighbour may hold without having run them."""

REPLAY_ROWS = 128
"""Positions of a log that go into one frame."""


class Lane(IntEnum):
    """Prompts and answers travel apart, so that a prompt never blocks an answer. A session's frames
    of one turn change lane only when the last prompt chunk has been around, so order is kept."""

    BULK = 0
    DECODE = 1


class Breach(StrEnum):
    """Why a stage's part of a session ended."""

    GAP = "gap"
    POSITION = "position"
    FULL = "full"
    UNREACHABLE = "unreachable"
    NONSENSE = "nonsense"
    LAPSED = "lapsed"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Frame:
    """Activations, or token ids for the entry, of ``count`` positions from ``start``.
    ``stage`` is the receiver's index in the route; ``payload`` is opaque here."""

    session: bytes
    stage: int
    epoch: int
    lane: Lane
    hop: int
    rollback: int
    start: int
    count: int
    payload: Any


@dataclass(frozen=True, slots=True)
class Ack:
    """To the sender of a lane: hops up to ``received`` have arrived, up to ``run`` were run.
    ``stage`` is the index of the acknowledging stage."""

    session: bytes
    stage: int
    epoch: int
    lane: Lane
    received: int
    run: int


@dataclass(frozen=True, slots=True)
class Turn:
    """To the tail, from the client: the ids from ``start`` on, and how to draw what follows them.
    The answer begins at ``answer_from``, at or before the end of the ids."""

    session: bytes
    epoch: int
    rollback: int
    start: int
    ids: tuple[int, ...]
    answer_from: int
    sampling: Sampling
    stops: frozenset[int]

    @property
    def end(self) -> int:
        return self.start + len(self.ids)


@dataclass(frozen=True, slots=True)
class Drawn:
    """From the tail to the client: tokens at consecutive positions; ``finish`` when a stop id ended it."""

    session: bytes
    epoch: int
    rollback: int
    tokens: tuple[Token, ...]
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """To every stage: have cache for the positions below ``upto`` before they are begun."""

    session: bytes
    epoch: int
    upto: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The stage's answer to ``Reserve``."""

    session: bytes
    stage: int
    epoch: int
    upto: int


@dataclass(frozen=True, slots=True)
class Grant:
    """To the tail: positions below ``credit`` are reserved at every stage."""

    session: bytes
    epoch: int
    rollback: int
    credit: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """To every stage: the client stopped; only positions below ``length`` stay."""

    session: bytes
    epoch: int
    rollback: int
    length: int


@dataclass(frozen=True, slots=True)
class Resume:
    """To every stage, once all have acknowledged a new epoch: keep the positions below ``keep``, and
    send on what follows ``emit_from``, from the log first."""

    session: bytes
    epoch: int
    rollback: int
    keep: int
    emit_from: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a stage holds as an epoch begins: its cache below ``length``, run under ``rollback``, and
    its outputs from ``log_from`` on."""

    rollback: int = 0
    length: int = 0
    log_from: int = 0


@dataclass(frozen=True, slots=True)
class Broken:
    """From a stage to the client: its part of the session has ended."""

    session: bytes
    stage: int
    epoch: int
    breach: Breach
    why: str


Action = Frame | Ack | Drawn | Reserved | Broken
Request = Frame | Ack | Turn | Resume | Reserve | Grant | Truncate

NOWHERE = 1 << 24
"""Beyond every position: a stage that emits from here on sends nothing."""

TURN = 1 << 32
"""What a turn or a stop adds to the rollback count; below it there is room for the tail's own."""


class Proposer(Protocol):
    """Guesses what comes next at the tail, and learns how that went."""

    def propose(self, room: int) -> Sequence[int]:
        """At most ``room`` token ids that may follow what was drawn last; a step leaves now."""

    def judge(self, proposed: int, accepted: int) -> None:
        """The step came around: so many of its proposals were right."""


class NoProposals:
    """Proposes nothing."""

    def propose(self, room: int) -> Sequence[int]:
        return ()

    def judge(self, proposed: int, accepted: int) -> None:
        pass


@dataclass(slots=True)
class Step:
    """Consecutive positions that one stage runs at once; ``offset`` rows of the payload came before."""

    lane: Lane
    hop: int
    rollback: int
    start: int
    count: int
    payload: Any
    offset: int = 0
    closes: bool = True
    """Whether its frame is run when this step is (a frame may be run in several steps)."""

    @property
    def end(self) -> int:
        return self.start + self.count


class Outbox:
    """The sending side of one lane to one neighbour: numbers frames, keeps what is not acknowledged,
    holds back what the window does not admit."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.window = BULK_WINDOW if lane is Lane.BULK else None
        self.next_hop = 0
        self.run = -1
        self.unreceived: deque[Frame] = deque()
        self.waiting: deque[Frame] = deque()

    def send(self, frame: Frame) -> list[Frame]:
        """Takes a frame whose hop is not set; returns what may leave now, numbered."""
        self.waiting.append(frame)
        return self._release()

    def acknowledge(self, received: int, run: int) -> list[Frame]:
        """Returns the frames that the window now admits."""
        while self.unreceived and self.unreceived[0].hop <= received:
            self.unreceived.popleft()
        self.run = max(self.run, min(run, self.next_hop - 1))
        return self._release()

    def again(self) -> list[Frame]:
        """After the stream was dialled again: everything that was not acknowledged, in order."""
        return list(self.unreceived)

    def forget(self, rollback: int) -> None:
        """Drops what waits with a lower rollback count: nobody would run it."""
        self.waiting = deque(frame for frame in self.waiting if frame.rollback >= rollback)

    def _release(self) -> list[Frame]:
        released = []
        while self.waiting and (self.window is None or self.next_hop - 1 - self.run < self.window):
            frame = replace(self.waiting.popleft(), hop=self.next_hop)
            self.next_hop += 1
            self.unreceived.append(frame)
            released.append(frame)
        return released


class Log:
    """A stage's outputs as they were sent, for the day the next stage is replaced. Consecutive
    positions from ``first`` to ``end``; payloads are sequences of equal stretches a position."""

    def __init__(self) -> None:
        self.first = 0
        self.end = 0
        self.size = 0
        """Of all payloads together, in the unit of their ``len``."""
        self._entries: deque[tuple[int, int, Any]] = deque()

    def append(self, start: int, count: int, payload: Any) -> None:
        if start != self.end:
            self.clear(start)
        self._entries.append((start, count, payload))
        self.end = start + count
        self.size += len(payload)

    def truncate(self, length: int) -> None:
        """Forgets the positions from ``length`` on."""
        while self._entries and self.end > length:
            start, count, payload = self._entries.pop()
            self.end = start
            self.size -= len(payload)
            if start < length:
                self.append(start, length - start, _rows(payload, count, 0, length - start))
        self.first = min(self.first, length)
        self.end = min(self.end, length)

    def clear(self, position: int) -> None:
        """Forgets everything; what comes next begins at ``position``."""
        self._entries.clear()
        self.first = self.end = position
        self.size = 0

    def pieces(self, start: int, most: int) -> Iterator[tuple[int, int, Any]]:
        """What is logged from ``start`` on, joined to pieces of at most ``most`` positions or, where
        they are longer, as they are."""
        held: list[Any] = []
        begin = start
        for first, count, payload in self._entries:
            if first + count <= start:
                continue
            skip = max(start - first, 0)
            rows = _rows(payload, count, skip, count)
            if held and first + count - begin > most:
                yield begin, first - begin, _joined(held)
                held, begin = [], first
            begin = begin if held else first + skip
            held.append(rows)
        if held:
            yield begin, self.end - begin, _joined(held)


def _rows(payload: Any, count: int, start: int, end: int) -> Any:
    """The stretch of a payload of ``count`` positions that belongs to positions ``start`` to ``end``."""
    if (start, end) == (0, count):
        return payload
    width = len(payload) // count
    return payload[start * width : end * width]


def _joined(payloads: list[Any]) -> Any:
    if len(payloads) == 1:
        return payloads[0]
    return b"".join(payloads) if isinstance(payloads[0], bytes) else sum(payloads, ())


class Part:
    """One stage's part of one session, through one epoch.

    ``reserve(upto)`` asks for cache up to an absolute position and says whether it was had;
    ``before`` is the same session's part in the epoch before, whose cache and log go on.
    The engine calls ``take`` for the next step and ``finish`` with its output; between the two no
    other step of this session is given out. Actions are returned in the order they must be sent.
    """

    def __init__(
        self,
        session: bytes,
        stage: int,
        stages: int,
        epoch: int,
        reserve: Callable[[int], bool],
        *,
        rollback: int = 0,
        before: Part | None = None,
    ) -> None:
        self.session, self.stage, self.stages = session, stage, stages
        self.epoch = epoch
        self.rollback: int = before.rollback if before else rollback
        self.reserve = reserve
        self.ran: int = before.ran if before else 0
        """Positions run: what the cache holds."""
        self.length = self.ran
        """Positions accepted, run or not."""
        self.log: Log = before.log if before else Log()
        self.resumed = False
        self.emit_from = 0
        self.credit = 0
        self.turn: Turn | None = None
        self.proposer: Proposer = NoProposals()
        self.broken: Breach | None = None
        self.running: Step | None = None
        self.queue: deque[Step] = deque()
        self._received = {Lane.BULK: -1, Lane.DECODE: -1}
        self._out = {Lane.BULK: Outbox(Lane.BULK), Lane.DECODE: Outbox(Lane.DECODE)}
        self._copy: Outbox | None = None
        self._copy_epoch = -1
        self._held: Token | None = None
        self._flight: tuple[int, tuple[int, ...]] = (-1, ())
        """The tail's last step into the ring: its first position, and the proposals behind it."""

    @property
    def is_tail(self) -> bool:
        return self.stage == self.stages - 1

    @property
    def next_stage(self) -> int:
        return (self.stage + 1) % self.stages

    @property
    def standing(self) -> Standing:
        """What this stage holds, for the client that begins an epoch."""
        log_from = self.log.first if self.log.end == self.ran else self.ran
        return Standing(self.rollback, self.ran, log_from)

    # What arrives

    def resume(self, resume: Resume) -> list[Action]:
        """The epoch's terms. Frames of it may have come before and have truncated already."""
        if resume.epoch != self.epoch or self.broken or self.resumed:
            return []
        acks = self._truncate(resume.rollback, resume.keep) if resume.rollback > self.rollback else []
        self.resumed, self.emit_from = True, resume.emit_from
        replay: list[Action] = []
        if not self.is_tail:
            for start, count, payload in self.log.pieces(resume.emit_from, REPLAY_ROWS):
                replay += self._send_on(Lane.BULK, start, count, payload)
        return acks + replay

    def receive(self, frame: Frame) -> list[Action]:
        if frame.epoch != self.epoch or self.broken:
            return []
        lane = frame.lane
        if frame.hop <= self._received[lane]:
            return [self.acknowledgement(lane)]
        if frame.hop > self._received[lane] + 1:
            return self.end(Breach.GAP, f"hop {frame.hop} came after {self._received[lane]}")
        self._received[lane] = frame.hop
        if frame.rollback < self.rollback:
            return [self.acknowledgement(lane)]
        if frame.rollback > self.rollback:
            if frame.start > self.length:
                return self.end(
                    Breach.POSITION, f"start {frame.start} is beyond the cache's end {self.length}"
                )
            self._truncate(frame.rollback, frame.start)
        elif frame.start != self.length:
            return self.end(Breach.POSITION, f"start {frame.start} where {self.length} was due")
        if not self.reserve(frame.start + frame.count):
            return self.end(Breach.FULL, "the cache is full")
        self.length += frame.count
        self.queue.append(Step(lane, frame.hop, frame.rollback, frame.start, frame.count, frame.payload))
        return [self.acknowledgement(lane)]

    def acknowledge(self, ack: Ack) -> list[Action]:
        if self.broken:
            return []
        if ack.epoch == self.epoch:
            return list(self._out[ack.lane].acknowledge(ack.received, ack.run))
        if self._copy is not None and ack.epoch == self._copy_epoch:
            return list(self._copy.acknowledge(ack.received, ack.run))
        return []

    def copy(self, epoch: int) -> list[Action]:
        """From now on, whoever will be the next stage in ``epoch`` gets all outputs too, those of the
        log first: so it can be filled while the ring goes on. Nothing where the log is not whole."""
        if self.broken or self.is_tail or self.log.first > 0 or self.log.end != self.ran:
            return []
        self._copy, self._copy_epoch = Outbox(Lane.BULK), epoch
        actions: list[Action] = []
        for start, count, payload in self.log.pieces(0, REPLAY_ROWS):
            actions += self._send_copy(start, count, payload)
        return actions

    def begin(self, turn: Turn) -> list[Action]:
        """To the tail: a turn of the client's. Its frames may arrive before or after it."""
        if turn.epoch != self.epoch or self.broken or turn.rollback < _turn(self.rollback):
            return []
        acks: list[Action] = []
        if turn.rollback > self.rollback and self.resumed:
            if turn.start > self.length:
                return self.end(
                    Breach.POSITION, f"a turn from {turn.start} is beyond the cache's end {self.length}"
                )
            acks = self._truncate(turn.rollback, turn.start)
        if self.turn is None or self.turn.rollback < turn.rollback:
            self.turn = turn
        return acks

    def truncate(self, stop: Truncate) -> list[Action]:
        if stop.epoch != self.epoch or self.broken or stop.rollback <= self.rollback:
            return []
        return self._truncate(stop.rollback, stop.length)

    def set_aside(self, wanted: Reserve) -> list[Action]:
        if wanted.epoch != self.epoch or self.broken:
            return []
        if not self.reserve(wanted.upto):
            return self.end(Breach.FULL, "the cache is full")
        return [Reserved(self.session, self.stage, self.epoch, wanted.upto)]

    def grant(self, grant: Grant) -> list[Action]:
        if grant.epoch != self.epoch or self.broken or grant.rollback != _turn(self.rollback):
            return []
        self.credit = max(self.credit, grant.credit)
        return self._go_on()

    def end(self, breach: Breach, why: str) -> list[Action]:
        """This stage can go on no further with this session in this epoch."""
        if self.broken:
            return []
        self.broken = breach
        self.queue.clear()
        return [Broken(self.session, self.stage, self.epoch, breach, why)]

    def again(self, lane: Lane) -> list[Action]:
        """What to send once more after the stream to the next stage was dialled again."""
        return [] if self.broken else list(self._out[lane].again())

    # What the engine does

    @property
    def ready(self) -> Step | None:
        """The step that ``take`` would give, whole; ``None`` while nothing may run."""
        if self.running or self.broken or not self.queue or not self.resumed:
            return None
        step = self.queue[0]
        if step.lane is Lane.BULK and self._out[Lane.BULK].waiting:
            return None  # the next stage is behind: let it catch up before adding to the pile
        if self.is_tail and (self.turn is None or self.turn.rollback != _turn(step.rollback)):
            return None  # how to draw is not known yet
        return step

    def take(self, rows: int | None = None) -> Step:
        """Begins the ready step, or its first ``rows`` rows."""
        step = self.ready
        if step is None:
            raise ValueError("there is no step to take")
        if rows is None or rows >= step.count:
            self.queue.popleft()
        else:
            first = replace(step, count=rows, closes=False)
            step.start, step.offset, step.count = step.start + rows, step.offset + rows, step.count - rows
            step = first
        self.running = step
        return step

    def wants_token(self, step: Step) -> bool:
        """Whether the tail draws after this step: from its last row, or where it holds proposals, from
        each row up to the first that contradicts them."""
        return self.is_tail and self.turn is not None and step.end >= self.turn.end

    def proposals(self, step: Step) -> tuple[int, ...]:
        """The ids that the tail proposed in this step, behind its first."""
        start, ids = self._flight
        return ids if step.lane is Lane.DECODE and start == step.start else ()

    def finish(self, step: Step, output: Any, tokens: Sequence[Token] = ()) -> list[Action]:
        """A step was run: ``output`` is what the next stage gets, ``tokens`` what the tail drew."""
        self.running = None
        if self.broken:
            return []
        actions: list[Action] = []
        if step.rollback == self.rollback:
            self.ran = step.end
            if not self.is_tail:
                self.log.append(step.start, step.count, output)
                actions += self._send_on(step.lane, step.start, step.count, output)
                actions += self._send_copy(step.start, step.count, output)
            elif tokens:
                actions += self._drew(step, tokens)
        if step.closes:
            actions.append(self.acknowledgement(step.lane))
        return actions

    def _drew(self, step: Step, tokens: Sequence[Token]) -> list[Action]:
        stops = self.turn.stops if self.turn is not None else frozenset()
        at = next((i for i, token in enumerate(tokens) if token.token_id in stops), None)
        kept = tuple(tokens if at is None else tokens[: at + 1])
        proposed = len(self.proposals(step))
        if proposed:
            self.proposer.judge(proposed, min(len(tokens) - 1, proposed))
        acks: list[Action] = []
        if kept[-1].position < self.length:  # what was run behind it followed a token that is wrong
            acks = self._truncate(self.rollback + 1, kept[-1].position)
        finish = Finish.STOP if at is not None else None
        drawn = Drawn(self.session, self.epoch, self.rollback, kept, finish)
        if finish is None:
            self._held = kept[-1]
        return [*self._go_on(), drawn, *acks]

    def _go_on(self) -> list[Action]:
        """Sends the drawn token into the ring, if its position has credit, and proposals behind it."""
        token = self._held
        if token is None or token.position >= self.credit:
            return []
        self._held = None
        proposals = tuple(self.proposer.propose(self.credit - token.position - 1))
        self._flight = (token.position, proposals)
        ids = (token.token_id, *proposals)
        return self._post(Lane.DECODE, token.position, len(ids), ids)

    def _send_on(self, lane: Lane, start: int, count: int, payload: Any) -> list[Action]:
        """Sends the next stage what it lacks of these positions."""
        known = min(max(self.emit_from - start, 0), count)
        if known == count:
            return []
        return self._post(lane, start + known, count - known, _rows(payload, count, known, count))

    def _send_copy(self, start: int, count: int, payload: Any) -> list[Action]:
        if self._copy is None:
            return []
        frame = self._frame(self._copy_epoch, Lane.BULK, start, count, payload)
        return list(self._copy.send(frame))

    def _post(self, lane: Lane, start: int, count: int, payload: Any) -> list[Action]:
        return list(self._out[lane].send(self._frame(self.epoch, lane, start, count, payload)))

    def _frame(self, epoch: int, lane: Lane, start: int, count: int, payload: Any) -> Frame:
        return Frame(self.session, self.next_stage, epoch, lane, -1, self.rollback, start, count, payload)

    def _truncate(self, rollback: int, length: int) -> list[Action]:
        """What was queued is gone, which the senders' windows must learn: hence the acknowledgements."""
        lanes = {step.lane for step in self.queue}
        self.queue.clear()
        if _turn(rollback) != _turn(self.rollback):
            self.credit = 0
        self._held = None
        self.rollback = rollback
        self.length = min(self.length, length)
        self.ran = min(self.ran, length)
        self.log.truncate(length)
        self.emit_from = min(self.emit_from, length)
        for outbox in (*self._out.values(), *([self._copy] if self._copy else [])):
            outbox.forget(rollback)
        return [self.acknowledgement(lane) for lane in lanes]

    def acknowledgement(self, lane: Lane) -> Ack:
        """How far this stage is with what came on a lane."""
        pending = [step.hop for step in self.queue if step.lane is lane]
        if self.running is not None and self.running.lane is lane:
            pending.append(self.running.hop)
        run = min(pending) - 1 if pending else self._received[lane]
        return Ack(self.session, self.stage, self.epoch, lane, self._received[lane], run)


def _turn(rollback: int) -> int:
    """The client's part of a rollback count, without what the tail has added."""
    return rollback - rollback % TURN


class Client:
    """The reader's side of one session: its ids, its turns, its credit.

    Methods return what to send, as pairs of a stage's index and a message. ``chunk`` is how many
    prompt tokens a frame carries, ``window`` how far ahead of the answer credit is asked for.
    """

    def __init__(self, session: bytes, *, chunk: int = 128, window: int = 64) -> None:
        self.session, self.chunk, self.window = session, chunk, window
        self.epoch = 0
        self.rollback = 0
        self.stages = 0
        self.ids: list[int] = []
        self.cached = 0
        """Positions that every stage is known to have run."""
        self.answering = False
        self.lost = False
        """Tokens are missing between what the tail sent and what came: only a new epoch helps."""
        self._standing: dict[int, Standing] = {}
        self._resumed = False
        self._truncated: list[tuple[int, int]] = []
        self._reserved: dict[int, int] = {}
        self._asked = self._granted = self._limit = 0
        self._answer_from = 0
        self._sampling = Sampling()
        self._stops: frozenset[int] = frozenset()
        self._out = Outbox(Lane.BULK)
        self._fill: Outbox | None = None
        self._fill_epoch = 0

    @property
    def is_open(self) -> bool:
        return 0 < self.stages == len(self._standing)

    @property
    def ready_stages(self) -> frozenset[int]:
        return frozenset(self._standing)

    def open(self, stages: int) -> None:
        """A new epoch over ``stages`` stages. The caller opens them and reports each with ``ready``; a
        turn under way goes on from the tokens held."""
        self.epoch = max(self.epoch, self._fill_epoch) + 1
        self._fill = None
        self.stages = stages
        self.lost = False
        self._resumed = False
        self._standing.clear()
        self._out = Outbox(Lane.BULK)

    def ready(self, stage: int, epoch: int, standing: Standing) -> list[tuple[int, Request]]:
        """A stage has acknowledged the epoch, with what it holds."""
        if epoch != self.epoch or stage in self._standing or not 0 <= stage < self.stages:
            return []
        self._standing[stage] = standing
        return self._launch() if self.is_open and self.answering else []

    # Filling a replacement while the ring goes on

    def fill(self) -> int:
        """The epoch in which a replacement is filled."""
        self._fill_epoch = max(self.epoch, self._fill_epoch) + 1
        return self._fill_epoch

    def fill_terms(self, epoch: int) -> Resume:
        """For the replacement: run all, send nothing on."""
        return Resume(self.session, epoch, self.rollback, 0, NOWHERE)

    def fill_entry(self) -> list[Request]:
        """What a new entry must run: it has no stage before it but the client."""
        self._fill = Outbox(Lane.BULK)
        return self._fill_with(0)

    def filled(self, ack: Ack) -> list[Request]:
        """The new entry's acknowledgement."""
        if self._fill is None or ack.epoch != self._fill_epoch:
            return []
        return list(self._fill.acknowledge(ack.received, ack.run))

    def fill_on(self, tokens: int) -> list[Request]:
        """The last ``tokens`` ids, which were drawn since."""
        return self._fill_with(len(self.ids) - tokens) if self._fill is not None else []

    def _fill_with(self, start: int) -> list[Request]:
        sends: list[Request] = []
        if self._fill is not None:
            for frame in self._frames(self._fill_epoch, start):
                sends += self._fill.send(frame)
        return sends

    def _frames(self, epoch: int, start: int) -> Iterator[Frame]:
        """The ids from ``start`` on, in chunks for the entry."""
        for first in range(start, len(self.ids), self.chunk):
            ids = tuple(self.ids[first : first + self.chunk])
            yield Frame(self.session, 0, epoch, Lane.BULK, -1, self.rollback, first, len(ids), ids)

    def holds(self, ids: Sequence[int]) -> int:
        """How many of these tokens need not be sent and run again everywhere."""
        if not self.is_open:
            return 0
        common = min(_common(self.ids, ids), len(ids) - 1)
        if self._resumed:
            return min(common, self.cached)
        return min(common, *self._keeps(common))

    def begin(
        self, ids: Sequence[int], sampling: Sampling, max_tokens: int, stops: frozenset[int]
    ) -> list[tuple[int, Request]]:
        """An answer of at most ``max_tokens`` tokens to the whole context ``ids``; only what the
        caches do not hold is sent."""
        if not ids or max_tokens < 1:
            raise ValueError("a turn needs at least one token in and one out")
        keep = min(_common(self.ids, ids), len(ids) - 1)
        self.cached = min(self.cached, keep)
        self.ids = list(ids)
        self._roll_back(keep)
        self._answer_from = len(ids)
        self._limit = len(ids) + max_tokens - 1
        self._sampling, self._stops = sampling, stops
        self.answering = True
        return self._launch() if self.is_open else []

    def stop(self) -> list[tuple[int, Request]]:
        """Ends the answer here; the caches keep what the client holds."""
        if not self.answering:
            return []
        self.answering = False
        self._roll_back(self.cached)
        if not self._resumed:
            return []
        message = Truncate(self.session, self.epoch, self.rollback, self.cached)
        return [(stage, message) for stage in range(self.stages)]

    def drawn(self, message: Drawn) -> tuple[list[Token], list[tuple[int, Request]]]:
        """Returns the tokens that are new, and what to send."""
        if message.epoch != self.epoch or _turn(message.rollback) != self.rollback or not self.answering:
            return [], []
        if message.rollback > self._truncated[-1][0]:
            self._truncated_at(message.rollback, message.tokens[-1].position)
        new = [token for token in message.tokens if token.position >= len(self.ids)]
        if not new:
            return [], []
        if new[0].position != len(self.ids):
            self.lost = True
            return [], []
        self.ids += [token.token_id for token in new]
        self.cached = len(self.ids) - 1
        if message.finish is not None or len(self.ids) > self._limit:
            self.answering = False
            return new, []
        return new, self._ask_ahead()

    def reserved(self, message: Reserved) -> list[tuple[int, Request]]:
        if message.epoch != self.epoch or not self.answering or message.stage not in self._reserved:
            return []
        self._reserved[message.stage] = max(self._reserved[message.stage], message.upto)
        least = min(self._reserved.values())
        if least <= self._granted:
            return []
        self._granted = min(least, self._limit)
        return [(self.stages - 1, Grant(self.session, self.epoch, self.rollback, self._granted))]

    def acknowledge(self, ack: Ack) -> list[tuple[int, Request]]:
        """The entry's acknowledgement of prompt chunks."""
        if ack.epoch != self.epoch:
            return []
        return [(0, frame) for frame in self._out.acknowledge(ack.received, ack.run)]

    def again(self) -> list[tuple[int, Request]]:
        return [(0, frame) for frame in self._out.again()]

    def _launch(self) -> list[tuple[int, Request]]:
        """Sends what the stages lack: of the prompt, or after ``open`` of everything held."""
        sends: list[tuple[int, Request]] = []
        if self._resumed:
            start, told = self.cached, self.cached
        else:
            start, told = self._resume(sends), 0
        self._out.forget(self.rollback)
        self._reserved = dict.fromkeys(range(self.stages), 0)
        self._granted = self._asked = 0
        sends.append((self.stages - 1, self.turn(self.epoch, told)))
        for frame in self._frames(self.epoch, start):
            sends += [(0, ready) for ready in self._out.send(frame)]
        return sends + self._ask_ahead()

    def turn(self, epoch: int, start: int) -> Turn:
        """The turn under way, as a tail must know it that knows the ids below ``start``."""
        ids = tuple(self.ids[start:])
        return Turn(
            self.session, epoch, self.rollback, start, ids, self._answer_from, self._sampling, self._stops
        )

    def _resume(self, sends: list[tuple[int, Request]]) -> int:
        """The terms of a new epoch for every stage; returns where the entry begins to lack tokens."""
        last = len(self.ids) - 1  # run by all once more, since its outcome is what comes next
        keeps = self._keeps(last)
        self._roll_back(last)
        for stage, keep in enumerate(keeps):
            emit_from = keeps[stage + 1] if stage + 1 < self.stages else keep
            sends.append((stage, Resume(self.session, self.epoch, self.rollback, keep, emit_from)))
        self._resumed = True
        self.cached = min(keeps)
        return keeps[0]

    def _keeps(self, most: int) -> list[int]:
        """How much of each stage's cache can be gone on from, below ``most``: where a stage's log does
        not reach back to what the next one lacks, it must run those positions again itself."""
        keeps = [self._valid(self._standing[stage], most) for stage in range(self.stages)]
        for stage in reversed(range(self.stages - 1)):
            if keeps[stage + 1] < min(keeps[stage], self._standing[stage].log_from):
                keeps[stage] = keeps[stage + 1]
        return keeps

    def _valid(self, standing: Standing, most: int) -> int:
        """What of a stage's cache holds the ids that the client holds now: what was run under an older
        rollback count is right below all truncations since."""
        since = [start for rollback, start in self._truncated if rollback > standing.rollback]
        return min([standing.length, most, *since])

    def _roll_back(self, start: int) -> None:
        self.rollback += TURN
        self._truncated_at(self.rollback, start)

    def _truncated_at(self, rollback: int, start: int) -> None:
        """Notes what invalidates caches that were filled under lower counts."""
        while self._truncated and self._truncated[-1][1] >= start:
            self._truncated.pop()
        self._truncated.append((rollback, start))

    def _ask_ahead(self) -> list[tuple[int, Request]]:
        """Asks for cache a window ahead of the answer once half of the last window is used."""
        if self._asked >= self._limit or len(self.ids) + self.window // 2 < self._asked:
            return []
        self._asked = min(max(self._asked, len(self.ids)) + self.window, self._limit)
        message = Reserve(self.session, self.epoch, self._asked)
        return [(stage, message) for stage in range(self.stages)]


def _common(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    for count, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return count
    return min(len(ours), len(theirs))
