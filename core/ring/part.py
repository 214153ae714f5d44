"""One stage's part of one session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from core.ring.frames import (
    NOWHERE,
    Ack,
    Action,
    Breach,
    Broken,
    Drawn,
    Frame,
    Grant,
    Lane,
    Reserve,
    Reserved,
    Resume,
    Standing,
    Truncate,
    Turn,
    turn_of,
)
from core.ring.log import REPLAY_ROWS, Log, rows_of
from core.ring.outbox import Outbox
from core.terms import Finish, Token


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
    rows: int = 0
    """Positions of the whole payload, where some came before or come after; 0: those of this step."""
    closes: bool = True
    """Whether its frame is run when this step is (a frame may be run in several steps)."""

    @property
    def end(self) -> int:
        return self.start + self.count


class Part:
    """One stage's part of one session, through one epoch.

    ``reserve(upto)`` asks for cache up to an absolute position and says whether it was had;
    ``before`` is the same session's part in the epoch before, whose cache and log go on; ``way`` is as
    ``Outbox`` has it, for prompts.
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
        way: Callable[[], int] = lambda: 0,
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
        self._good_upto = 0
        """Where a truncation cut the step under way, or its end."""
        self.queue: deque[Step] = deque()
        self._received = {Lane.BULK: -1, Lane.DECODE: -1}
        self._out = {Lane.BULK: Outbox(Lane.BULK, way), Lane.DECODE: Outbox(Lane.DECODE)}
        self._early: list[tuple[int, int]] = []
        """Truncations that came before the epoch's terms: some may be of a later turn than those."""
        self._copy: Outbox | None = None
        self._copy_epoch = -1
        self._held: Token | None = None
        self._flight: tuple[int, tuple[int, ...]] = (-1, ())
        """The tail's last step into the ring: its first position, and the proposals behind it."""

    @property
    def is_tail(self) -> bool:
        return self.stage == self.stages - 1

    @property
    def is_silent(self) -> bool:
        """Whether it is being filled: it runs all and neither draws nor sends anything on."""
        return self.resumed and self.emit_from == NOWHERE

    @property
    def next_stage(self) -> int:
        return (self.stage + 1) % self.stages

    @property
    def standing(self) -> Standing:
        """What this stage holds, for the client that begins an epoch."""
        log_from = self.log.first if self.log.end == self.ran else self.ran
        return Standing(self.rollback, self.ran, log_from)

    def adopt(self, other: Part, upto: int) -> None:
        """Begins with what another session has run of the same tokens below ``upto``: the cache is copied."""
        self.ran = self.length = upto
        whole = other.log.first == 0 and other.log.end >= upto
        self.log.clear(0 if whole else upto)
        for start, count, payload in other.log.pieces(0, REPLAY_ROWS) if whole else ():
            kept = min(count, upto - start)
            if kept > 0:
                self.log.append(start, kept, rows_of(payload, count, 0, kept))

    # What arrives

    def resume(self, resume: Resume) -> list[Action]:
        """The epoch's terms. Frames of it may have come before and have truncated already."""
        if (resume.stage, resume.epoch) != (self.stage, self.epoch) or self.broken or self.resumed:
            return []
        acks: list[Action] = []
        if resume.rollback > self.rollback:
            acks = self._truncate(resume.rollback, resume.keep)
        elif self._early and self._early[0][1] > resume.keep:
            # Its cache between the two may be of another text, and nobody would send that again.
            return self.end(Breach.POSITION, f"{self._early[0][1]} came first where {resume.keep} are kept")
        elif max(self._received.values()) < 0:  # it was opened with what it held of this same turn
            acks = self._truncate(self.rollback, min(resume.keep, self.length))
        later = [length for rollback, length in self._early if rollback > resume.rollback]
        silent = resume.emit_from == NOWHERE
        self.resumed, self.emit_from = True, NOWHERE if silent else min([resume.emit_from, *later])
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
        rows, payload = frame.count, frame.payload
        self.queue.append(Step(lane, frame.hop, frame.rollback, frame.start, rows, payload, rows=rows))
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
        if turn.epoch != self.epoch or self.broken or turn.rollback < turn_of(self.rollback):
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
        if grant.epoch != self.epoch or self.broken or grant.rollback != turn_of(self.rollback):
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
        if self.is_tail and not self.is_silent and not self._knows_how_to_draw(step):
            return None
        return step

    def _knows_how_to_draw(self, step: Step) -> bool:
        return self.turn is not None and self.turn.rollback == turn_of(step.rollback)

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
        self._good_upto = step.end
        return step

    def wants_token(self, step: Step) -> bool:
        """Whether the tail draws after this step: from its last row, or where it holds proposals, from
        each row up to the first that contradicts them."""
        draws = self.is_tail and not self.is_silent
        return draws and self.turn is not None and step.end >= self.turn.end

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
        count = min(step.end, self._good_upto) - step.start
        if count > 0:
            self.ran = step.start + count
            if not self.is_tail:
                output = rows_of(output, step.count, 0, count)
                self.log.append(step.start, count, output)
                actions += self._send_on(step.lane, step.start, count, output)
                actions += self._send_copy(step.start, count, output)
            elif tokens and step.rollback == self.rollback:
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
        return self._post(lane, start + known, count - known, rows_of(payload, count, known, count))

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
        """What was queued from ``length`` on is gone, which the senders' windows must learn: hence the
        acknowledgements. What comes before it has still to be run where this stage is behind the others."""
        lanes = {step.lane for step in self.queue if step.end > length}
        self.queue = deque(step for step in self.queue if step.start < length)
        for step in self.queue:
            step.rollback, step.count = rollback, min(step.count, length - step.start)
        self._good_upto = min(self._good_upto, length)
        if turn_of(rollback) != turn_of(self.rollback):
            self.credit = 0
        self._held = None
        self.rollback = rollback
        if not self.resumed:
            self._early.append((rollback, length))
        self.length = min(self.length, length)
        self.ran = min(self.ran, length)
        self.log.truncate(length)
        if not self.is_silent:
            self.emit_from = min(self.emit_from, length)
        for outbox in self._out.values():
            outbox.forget(rollback)
        if self._copy is not None:
            self._copy.truncate(rollback, length)
        return [self.acknowledgement(lane) for lane in lanes]

    def acknowledgement(self, lane: Lane) -> Ack:
        """How far this stage is with what came on a lane."""
        pending = [step.hop for step in self.queue if step.lane is lane]
        if self.running is not None and self.running.lane is lane:
            pending.append(self.running.hop)
        run = min(pending) - 1 if pending else self._received[lane]
        return Ack(self.session, self.stage, self.epoch, lane, self._received[lane], run)
