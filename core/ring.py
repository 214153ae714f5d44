"""The rules that keep a ring of donors right, without sockets, clocks or tensors.

A session travels around a ring: the client sends the prompt's token ids to the entry in chunks, each
stage runs them and forwards its outputs to the next, the tail draws a token, tells the client, and
sends it to the entry as the next step. ``Part`` is one stage's part of one session, ``Client`` the
reader's side. Both are fed messages and return actions; who carries them is not their business.

What holds, whatever the network does:

* A frame of another *epoch* is dropped. The client alone raises the epoch, and resumes when every
  stage has acknowledged it.
* *Hop* numbers count the frames between two neighbours, per lane, from 0 in each epoch, without gaps:
  one already seen is dropped, a gap ends the stage's part.
* Only a higher *rollback* count truncates; a frame with a lower one is skipped; a start beyond the
  cache's end is refused.
* A receiver acknowledges *received* at once and *run* later; at most ``BULK_WINDOW`` prefill chunks
  of a session are unrun between two neighbours.
* *Credit* is an absolute position: the tail sends no position into the ring that the client has not
  had reserved at every stage.
* Two steps of one session are never under way at once.

Positions are absolute: position p is the p-th token of the session. Running position p - 1 yields the
distribution that token p is drawn from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any

from core.terms import Finish, Sampling, Token

BULK_WINDOW = 2
"""Prefill chunks of a session that a neighbour may hold without having run them."""


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
class Broken:
    """From a stage to the client: its part of the session has ended."""

    session: bytes
    stage: int
    epoch: int
    breach: Breach
    why: str


Action = Frame | Ack | Drawn | Reserved | Broken
Request = Frame | Ack | Turn | Reserve | Grant | Truncate

TURN = 1 << 32
"""What a turn or a stop adds to the rollback count; below it there is room for the tail's own."""


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


class Part:
    """One stage's part of one session, through one epoch.

    ``reserve(upto)`` asks for cache up to an absolute position and says whether it was had.
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
    ) -> None:
        self.session, self.stage, self.stages = session, stage, stages
        self.epoch, self.rollback = epoch, rollback
        self.reserve = reserve
        self.length = 0
        """Positions accepted, run or not."""
        self.credit = 0
        self.turn: Turn | None = None
        self.broken: Breach | None = None
        self.running: Step | None = None
        self.queue: deque[Step] = deque()
        self._received = {Lane.BULK: -1, Lane.DECODE: -1}
        self._out = {Lane.BULK: Outbox(Lane.BULK), Lane.DECODE: Outbox(Lane.DECODE)}
        self._held: Token | None = None

    @property
    def is_tail(self) -> bool:
        return self.stage == self.stages - 1

    @property
    def next_stage(self) -> int:
        return (self.stage + 1) % self.stages

    # What arrives

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
        if ack.epoch != self.epoch or self.broken:
            return []
        return list(self._out[ack.lane].acknowledge(ack.received, ack.run))

    def begin(self, turn: Turn) -> list[Action]:
        """To the tail: a turn of the client's. Its frames may arrive before or after it."""
        if turn.epoch != self.epoch or self.broken or turn.rollback < self.rollback:
            return []
        acks: list[Action] = []
        if turn.rollback > self.rollback:
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
        if grant.epoch != self.epoch or self.broken or grant.rollback != self.rollback:
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
        if self.running or self.broken or not self.queue:
            return None
        step = self.queue[0]
        if step.lane is Lane.BULK and self._out[Lane.BULK].waiting:
            return None  # the next stage is behind: let it catch up before adding to the pile
        if self.is_tail and (self.turn is None or self.turn.rollback != step.rollback):
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
        """Whether the tail draws a token after this step."""
        return self.is_tail and self.turn is not None and step.end >= self.turn.end

    def finish(self, step: Step, output: Any, token: Token | None = None) -> list[Action]:
        """A step was run: ``output`` is what the next stage gets, ``token`` what the tail drew."""
        self.running = None
        if self.broken:
            return []
        actions: list[Action] = []
        if step.rollback == self.rollback:
            if not self.is_tail:
                actions += self._forward(step.lane, step.start, step.count, output)
            elif token is not None:
                actions += self._drew(token)
        if step.closes:
            actions.append(self.acknowledgement(step.lane))
        return actions

    def _drew(self, token: Token) -> list[Action]:
        turn = self.turn
        if turn is None:  # wants_token said so a moment ago; the turn cannot vanish within an epoch
            return []
        stopped = token.token_id in turn.stops
        drawn = Drawn(self.session, self.epoch, self.rollback, (token,), Finish.STOP if stopped else None)
        if stopped:
            return [drawn]
        self._held = token
        return [*self._go_on(), drawn]

    def _go_on(self) -> list[Action]:
        """Sends the drawn token into the ring, if its position has credit."""
        token = self._held
        if token is None or token.position >= self.credit:
            return []
        self._held = None
        return self._forward(Lane.DECODE, token.position, 1, token.token_id)

    def _forward(self, lane: Lane, start: int, count: int, payload: Any) -> list[Action]:
        frame = Frame(
            self.session, self.next_stage, self.epoch, lane, -1, self.rollback, start, count, payload
        )
        return list(self._out[lane].send(frame))

    def _truncate(self, rollback: int, length: int) -> list[Action]:
        """What was queued is gone, which the senders' windows must learn: hence the acknowledgements."""
        lanes = {step.lane for step in self.queue}
        self.queue.clear()
        self.rollback = rollback
        self.length = min(self.length, length)
        self.credit = 0
        self._held = None
        for outbox in self._out.values():
            outbox.forget(rollback)
        return [self.acknowledgement(lane) for lane in lanes]

    def acknowledgement(self, lane: Lane) -> Ack:
        """How far this stage is with what came on a lane."""
        pending = [step.hop for step in self.queue if step.lane is lane]
        if self.running is not None and self.running.lane is lane:
            pending.append(self.running.hop)
        run = min(pending) - 1 if pending else self._received[lane]
        return Ack(self.session, self.stage, self.epoch, lane, self._received[lane], run)


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
        self._ready: set[int] = set()
        self._reserved: dict[int, int] = {}
        self._asked = self._granted = self._limit = 0
        self._answer_from = 0
        self._sampling = Sampling()
        self._stops: frozenset[int] = frozenset()
        self._out = Outbox(Lane.BULK)

    @property
    def is_open(self) -> bool:
        return 0 < self.stages == len(self._ready)

    @property
    def ready_stages(self) -> frozenset[int]:
        return frozenset(self._ready)

    def open(self, stages: int) -> None:
        """A new epoch over ``stages`` stages, whose caches start empty. The caller opens them and
        reports each with ``ready``; a turn under way goes on from the tokens held."""
        self.epoch += 1
        self.rollback += TURN
        self.stages = stages
        self.cached = 0
        self.lost = False
        self._ready.clear()
        self._out = Outbox(Lane.BULK)

    def ready(self, stage: int, epoch: int) -> list[tuple[int, Request]]:
        """A stage has acknowledged the epoch."""
        if epoch != self.epoch or stage in self._ready or not 0 <= stage < self.stages:
            return []
        self._ready.add(stage)
        return self._launch() if self.is_open and self.answering else []

    def begin(
        self, ids: Sequence[int], sampling: Sampling, max_tokens: int, stops: frozenset[int]
    ) -> list[tuple[int, Request]]:
        """An answer of at most ``max_tokens`` tokens to the whole context ``ids``; only what the
        caches do not hold is sent."""
        if not ids or max_tokens < 1:
            raise ValueError("a turn needs at least one token in and one out")
        common = 0
        for ours, theirs in zip(self.ids[: self.cached], ids, strict=False):
            if ours != theirs:
                break
            common += 1
        self.cached = min(common, len(ids) - 1)
        self.ids = list(ids)
        self.rollback += TURN
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
        self.rollback += TURN
        if not self.is_open:
            return []
        message = Truncate(self.session, self.epoch, self.rollback, self.cached)
        return [(stage, message) for stage in range(self.stages)]

    def drawn(self, message: Drawn) -> tuple[list[Token], list[tuple[int, Request]]]:
        """Returns the tokens that are new, and what to send."""
        if message.epoch != self.epoch or message.rollback != self.rollback or not self.answering:
            return [], []
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
        """Sends what the caches lack. After ``open`` that is everything, the answer so far included."""
        self._out.forget(self.rollback)
        self._reserved = dict.fromkeys(range(self.stages), 0)
        self._granted = self._asked = 0
        tail = self.stages - 1
        ids = tuple(self.ids[self.cached :])
        turn = Turn(
            self.session,
            self.epoch,
            self.rollback,
            self.cached,
            ids,
            self._answer_from,
            self._sampling,
            self._stops,
        )
        sends: list[tuple[int, Request]] = [(tail, turn)]
        for offset in range(0, len(ids), self.chunk):
            part = ids[offset : offset + self.chunk]
            frame = Frame(
                self.session,
                0,
                self.epoch,
                Lane.BULK,
                -1,
                self.rollback,
                self.cached + offset,
                len(part),
                part,
            )
            sends += [(0, ready) for ready in self._out.send(frame)]
        return sends + self._ask_ahead()

    def _ask_ahead(self) -> list[tuple[int, Request]]:
        """Asks for cache a window ahead of the answer once half of the last window is used."""
        if self._asked >= self._limit or len(self.ids) + self.window // 2 < self._asked:
            return []
        self._asked = min(max(self._asked, len(self.ids)) + self.window, self._limit)
        message = Reserve(self.session, self.epoch, self._asked)
        return [(stage, message) for stage in range(self.stages)]
