"""Stages, one client, and a network between them that loses, doubles, reorders, delays and kills."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Any

from core.ring.client import Client
from core.ring.frames import (
    Ack,
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
from core.ring.part import Part
from core.terms import Sampling, Token

VOCABULARY = 50
SPARE = -1
"""The place of a donor that is being filled."""
STOP_ID = 7


def mix(stage: int, before: int, value: int) -> int:
    """One position of a stage's stand-in for a model: depends on all before it."""
    return hash((stage, before, value)) & 0xFFFFFFFF


class Layers:
    """A stage's model and cache in one: ``prefix[p]`` stands for the keys of positions 0 .. p."""

    def __init__(self, stage: int) -> None:
        self.stage = stage
        self.prefix: list[int] = []

    def run(self, start: int, values: Any) -> tuple[int, ...]:
        assert start <= len(self.prefix), "a step may not begin beyond the cache's end"
        del self.prefix[start:]
        for value in values:
            before = self.prefix[-1] if self.prefix else 0
            self.prefix.append(mix(self.stage, before, value))
        return tuple(self.prefix[start:])


def expected(ids: list[int], stages: int, limit: int) -> list[int]:
    """What one process would answer: the ids after the prompt."""
    layers = [Layers(stage) for stage in range(stages)]
    answer: list[int] = []
    start, values = 0, tuple(ids)
    while len(answer) < limit:
        for layer in layers:
            values = layer.run(start, values)
        token = values[-1] % VOCABULARY
        answer.append(token)
        if token == STOP_ID:
            break
        start, values = len(ids) + len(answer) - 1, (token,)
    return answer


@dataclass
class Chaos:
    """How unkind the network is; each rate is a probability a message."""

    lose: float = 0.0
    double: float = 0.0
    reorder: float = 0.0
    kill: float = 0.0
    until: float = 400.0


@dataclass
class Spare:
    """Another donor's part, which is filled to be a stage later."""

    part: Part
    layers: Layers


@dataclass
class World:
    """Stages, one client and the messages between them, under one clock."""

    stages: int
    chaos: Chaos
    random: random.Random
    now: float = 0.0
    count: int = 0
    heap: list[tuple[float, int, Any, Any]] = field(default_factory=list)
    due: dict[tuple[Any, Any], float] = field(default_factory=dict)
    progress: float = 0.0
    got: list[Token] = field(default_factory=list)
    kills: int = 0
    reopened: int = 0
    accepted: int = 0
    prompt: int = 0
    answer: list[int] = field(default_factory=list)
    """What the answer will be, for guesses."""
    source: World | None = None
    """Another session of the same client on the same stages, which this one takes tokens over from,"""
    shared: int = 0
    moving: float = 0.0
    """The chance a step that the ring is to change over."""
    """so many."""
    adopted: int = 0
    changes: int = 0
    """How often the ring changed over to an epoch that was opened ahead."""
    filled: int = 0
    """How often a stage was filled for a while, and then took over."""

    def __post_init__(self) -> None:
        self.client = Client(
            b"s" * 16, chunk=self.random.choice((1, 3, 8)), window=self.random.choice((1, 2, 6))
        )
        self.parts: list[Part | None] = [None] * self.stages
        self.layers = [Layers(stage) for stage in range(self.stages)]
        self.busy: list[Layers] = []  # an engine runs one step at a time, across epochs too
        self.ahead: dict[int, tuple[int, int, Spare | None]] = {}  # by stage: epoch, rollback, another donor
        self.told: dict[int, Any] = {}
        self.spare: Spare | None = None
        self.asked, self.new = 0, -1
        self.way = self.random.choice((0, 4, 20))

    # The network

    def post(self, source: Any, target: Any, message: Any) -> None:
        chaos = self.chaos if self.now < self.chaos.until else Chaos()
        copies = 0 if self.random.random() < chaos.lose else 1
        copies += self.random.random() < chaos.double
        for _ in range(copies):
            arrival = self.now + self.random.uniform(0.1, 3.0)
            link = (source, target, self.lane(message))
            if self.random.random() >= chaos.reorder:  # streams keep order, except where chaos reigns
                arrival = max(arrival, self.due.get(link, 0.0))
                self.due[link] = arrival
            self.at(arrival, target, message)

    @staticmethod
    def lane(message: Any) -> Any:
        return message.lane if isinstance(message, Frame | Ack) else None

    def at(self, time: float, target: Any, message: Any) -> None:
        self.count += 1
        heapq.heappush(self.heap, (time, self.count, target, message))

    # The stages

    def at_place(self, place: int) -> tuple[Part | None, Layers]:
        if place != SPARE:
            return self.parts[place], self.layers[place]
        return (self.spare.part, self.spare.layers) if self.spare else (None, Layers(0))

    def stage_gets(self, index: int, message: Any) -> None:
        match message:
            case ("open", *terms):
                self.open_stage(index, *terms)
            case ("ahead", epoch, rollback, whose):
                self.ahead[index] = epoch, rollback, whose
                part = whose.part if whose is not None else self.parts[index]
                standing = part.standing if part is not None else Standing()
                self.post(index, "client", ("waiting", index, epoch, standing))
            case ("copy", serving, into):
                part = self.parts[index]
                if part is not None and part.epoch == serving:
                    self.send(index, part.copy(into))
            case ("ran", part, step, layers):  # the engine has finished a step
                self.finish(index, part, step, layers)
            case _:
                self.hears(index, message)

    def hears(self, index: int, message: Any) -> None:
        """What client or neighbours say to one stage, or to a spare."""
        if index in self.ahead and self.ahead[index][0] == message.epoch:
            epoch, rollback, whose = self.ahead[index]
            if whose is not None and whose.part.broken:
                return  # it has begun to be filled anew: that donor knows nothing of this epoch any more
            del self.ahead[index]
            if whose is not None:
                self.take_place(index, whose)
            self.open_stage(index, epoch, rollback)
        part, _ = self.at_place(index)
        if part is None:
            return
        handlers: dict[type, Any] = {
            Frame: part.receive,
            Ack: part.acknowledge,
            Turn: part.begin,
            Resume: part.resume,
            Reserve: part.set_aside,
            Grant: part.grant,
            Truncate: part.truncate,
        }
        self.send(index, handlers[type(message)](message))
        self.engine(index)

    def open_stage(self, index: int, epoch: int, rollback: int, source: World | None = None) -> None:
        part = self.parts[index]
        if part is None:
            self.layers[index] = Layers(index)
        if part is None or part.epoch < epoch:
            part = self.new_part(index, epoch, part, rollback)
            self.parts[index] = part
            if source is not None:
                self.take_over(index, part, source)
            if self.random.random() < 0.2:
                part.log.clear(part.ran)  # the log's memory was needed for something else
        elif part.epoch > epoch:
            return
        self.post(index, "client", ("ready", index, epoch, part.standing))

    def new_part(self, index: int, epoch: int, before: Part | None, rollback: int | None = None) -> Part:
        made = Part(
            self.client.session,
            index,
            self.stages,
            epoch,
            lambda upto: True,
            rollback=self.client.rollback if rollback is None else rollback,
            before=before,
            way=lambda: self.way,
        )
        made.proposer = self
        return made

    def take_over(self, index: int, part: Part, source: World) -> None:
        """What another session has run of the same tokens need not be run again, unless a later turn may have
        changed it."""
        its = source.parts[index]
        if its is None or part.ran or turn_of(its.rollback) != source.client.rollback:
            return
        upto = min(self.shared, its.ran)
        if not upto or self.random.random() < 0.2:
            return
        self.layers[index].prefix = source.layers[index].prefix[:upto]
        part.adopt(its, upto)
        self.adopted += 1

    def take_place(self, index: int, spare: Spare) -> None:
        """Another donor is this stage from now on."""
        self.parts[index], self.layers[index] = spare.part, spare.layers
        if self.spare is spare:
            self.spare = None

    def engine(self, index: int) -> None:
        part, layers = self.at_place(index)
        if part is None or part.ready is None or layers in self.busy:
            return
        self.busy.append(layers)
        rows = self.random.choice((None, 1, 2)) if part.ready.lane is Lane.BULK else None
        step = part.take(rows)
        self.at(self.now + self.random.uniform(0.1, 2.0), index, ("ran", part, step, layers))

    def finish(self, index: int, part: Part, step: Any, layers: Layers) -> None:
        self.busy.remove(layers)
        output = layers.run(step.start, step.payload[step.offset : step.offset + step.count])
        tokens = self.draw(part, step, output) if part.wants_token(step) else []
        actions = part.finish(step, output, tokens)
        if part is self.at_place(index)[0]:
            self.send(index, actions)
        self.engine(index)

    @staticmethod
    def draw(part: Part, step: Any, output: tuple[int, ...]) -> list[Token]:
        """As an engine does: up to the first token that contradicts a proposal."""
        proposals = part.proposals(step)
        rows = output[-1:] if not proposals else output
        tokens = []
        for row, (value, proposal) in enumerate(zip(rows, (*proposals, None), strict=True)):
            tokens.append(Token(step.end - len(rows) + row + 1, value % VOCABULARY, 0.0))
            if tokens[-1].token_id != proposal:
                break
        return tokens

    def propose(self, room: int) -> list[int]:
        """Guesses of which some are right: what the answer will be, with errors."""
        known = self.answer[len(self.client.ids) - self.prompt + self.random.randint(0, 2) :]
        return [
            token if self.random.random() < 0.8 else self.random.randrange(VOCABULARY)
            for token in known[: min(room, self.random.choice((0, 1, 3)))]
        ]

    def judge(self, proposed: int, accepted: int) -> None:
        self.accepted += accepted

    def send(self, index: int, actions: Any) -> None:
        for action in actions:
            if isinstance(action, Frame):
                filling = self.spare is not None and action.epoch == self.spare.part.epoch
                self.post(index, SPARE if filling else action.stage, action)
            elif isinstance(action, Ack):
                stage = action.stage
                sender = "client" if stage == 0 and action.lane is Lane.BULK else (stage - 1) % self.stages
                self.post(index, sender, action)
            else:
                self.post(index, "client", action)

    def kill(self, index: int) -> None:
        if self.random.random() < 0.1:
            self.spare = None
        else:
            self.parts[index] = None
        self.kills += 1

    # The client

    def client_gets(self, message: Any) -> None:
        client = self.client
        sends: Any = []
        if getattr(message, "epoch", client.epoch) == client.epoch:
            self.progress = self.now  # slow is not stuck
        if isinstance(message, tuple) and message[0] == "waiting":
            if message[2] == self.asked:
                self.told[message[1]] = message[3]
        elif isinstance(message, tuple):
            sends = client.ready(*message[1:])
        elif isinstance(message, Drawn):
            new, sends = client.drawn(message)
            self.got += new
            for frame in client.fill_on(len(new)):
                self.post("client", SPARE, frame)
            sends = [*sends, *self.change_over()] if new else sends
        elif isinstance(message, Reserved):
            sends = client.reserved(message)
        elif isinstance(message, Ack):
            for frame in client.filled(message):
                self.post("client", SPARE, frame)
            sends = client.acknowledge(message)
        elif isinstance(message, Broken) and message.epoch == client.epoch:
            client.lost = True
        self.dispatch(sends)
        if client.lost and client.answering:
            self.reopen()

    def ask_ahead(self) -> None:
        """Has all stages open an epoch while this one goes on; one of them may be another donor's then."""
        self.asked, self.told = self.client.ask_ahead(), {}
        self.new, whose = -1, self.spare
        if whose is not None:
            self.new = whose.part.stage
        elif self.random.random() < 0.7:
            self.new = self.random.randrange(self.stages)
            whose = Spare(self.new_part(self.new, 0, None), Layers(self.new))
        for stage in range(self.stages):
            message = ("ahead", self.asked, self.client.rollback, whose if stage == self.new else None)
            self.post("client", stage, message)

    def fill(self) -> None:
        """Has another donor filled while the ring goes on, anew or with what it has of an earlier try."""
        client, stage = self.client, self.random.randrange(self.stages)
        epoch = client.fill()
        old = self.spare if self.random.random() < 0.2 else None
        if old is not None and old.part.stage == stage:
            old.part.end(Breach.LAPSED, "")
        else:
            old = None
        part = self.new_part(stage, epoch, old.part if old else None)
        self.spare = Spare(part, old.layers if old else Layers(stage))
        self.post("client", SPARE, client.fill_terms(stage, epoch))
        if stage == 0:
            for frame in client.fill_entry():
                self.post("client", SPARE, frame)
        else:
            self.post("client", stage - 1, ("copy", client.epoch, epoch))

    def change_over(self) -> list[Any]:
        """Just after a token, once all stages wait for it."""
        if len(self.told) < self.stages or self.asked <= self.client.epoch or not self.client.answering:
            return []
        self.changes += 1
        self.filled += (
            self.spare is not None and self.spare.part.stage == self.new and self.spare.part.ran > 0
        )
        staying = {stage for stage in range(self.stages) if stage != self.new}
        told, self.told = self.told, {}
        return self.client.change_over(self.asked, told, staying)

    def dispatch(self, sends: Any) -> None:
        for stage, message in sends:
            self.post("client", stage, message)

    def reopen(self) -> None:
        self.reopened += 1
        self.progress = self.now
        self.client.open(self.stages)
        if self.spare is not None and self.random.random() < 0.5:
            self.take_place(self.spare.part.stage, self.spare)
        for stage in range(self.stages):
            self.post("client", stage, ("open", self.client.epoch, self.client.rollback, self.source))

    def turn(self, ids: list[int], limit: int, stop_after: int | None) -> None:
        """Runs one answer to its end, or to the reader's stop."""
        self.got = []
        self.source = None
        self.progress = self.now
        self.dispatch(self.client.begin(ids, Sampling(), limit, frozenset({STOP_ID})))
        while self.client.answering:
            self.step()
            if stop_after is not None and len(self.got) >= stop_after and self.client.answering:
                self.dispatch(self.client.stop())

    def step(self) -> None:
        assert self.now < 20_000, "the session is stuck"
        if self.random.random() < self.chaos.kill and self.now < self.chaos.until:
            self.kill(self.random.randrange(self.stages))
        if self.client.answering and self.client.is_open and self.random.random() < self.moving:
            self.random.choice((self.ask_ahead, self.fill, self.fill))()
        if not self.heap or self.now - self.progress > 60:
            self.now += 1
            if self.now - self.progress > 60:
                self.reopen()
            return
        self.now, _, target, message = heapq.heappop(self.heap)
        if target == "client":
            self.client_gets(message)
        else:
            self.stage_gets(target, message)
