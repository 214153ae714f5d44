"""The ring under a network that loses, doubles, reorders and delays frames, and kills stages."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from core.ring import (
    TURN,
    Ack,
    Breach,
    Broken,
    Client,
    Drawn,
    Frame,
    Grant,
    Lane,
    Log,
    Part,
    Reserve,
    Reserved,
    Resume,
    Truncate,
    Turn,
)
from core.terms import Finish, Sampling, Token

VOCABULARY = 50
STOP_ID = 7
SCHEDULES = 10_000


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

    def __post_init__(self) -> None:
        self.client = Client(
            b"s" * 16, chunk=self.random.choice((1, 3, 8)), window=self.random.choice((1, 2, 6))
        )
        self.parts: list[Part | None] = [None] * self.stages
        self.layers = [Layers(stage) for stage in range(self.stages)]
        self.busy: list[Layers] = []  # an engine runs one step at a time, across epochs too

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

    def stage_gets(self, index: int, message: Any) -> None:
        if isinstance(message, tuple) and message[0] == "open":
            self.open_stage(index, message[1], message[2])
            return
        if isinstance(message, tuple):  # the engine has finished a step
            self.finish(index, *message[1:])
            return
        part = self.parts[index]
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

    def open_stage(self, index: int, epoch: int, rollback: int) -> None:
        part = self.parts[index]
        if part is None:
            self.layers[index] = Layers(index)
        if part is None or part.epoch < epoch:
            part = Part(
                self.client.session,
                index,
                self.stages,
                epoch,
                lambda upto: True,
                rollback=rollback,
                before=part,
            )
            self.parts[index] = part
            part.proposer = self
            if self.random.random() < 0.2:
                part.log.clear(part.ran)  # the log's memory was needed for something else
        elif part.epoch > epoch:
            return
        self.post(index, "client", ("ready", index, epoch, part.standing))

    def engine(self, index: int) -> None:
        part = self.parts[index]
        if part is None or part.ready is None or self.layers[index] in self.busy:
            return
        self.busy.append(self.layers[index])
        rows = self.random.choice((None, 1, 2)) if part.ready.lane is Lane.BULK else None
        step = part.take(rows)
        self.at(self.now + self.random.uniform(0.1, 2.0), index, ("ran", part, step, self.layers[index]))

    def finish(self, index: int, part: Part, step: Any, layers: Layers) -> None:
        self.busy.remove(layers)
        output = layers.run(step.start, step.payload[step.offset : step.offset + step.count])
        tokens = self.draw(part, step, output) if part.wants_token(step) else []
        actions = part.finish(step, output, tokens)
        if part is self.parts[index]:
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
                self.post(index, action.stage, action)
            elif isinstance(action, Ack):
                sender = "client" if index == 0 and action.lane is Lane.BULK else (index - 1) % self.stages
                self.post(index, sender, action)
            else:
                self.post(index, "client", action)

    def kill(self, index: int) -> None:
        self.parts[index] = None
        self.kills += 1

    # The client

    def client_gets(self, message: Any) -> None:
        client = self.client
        sends: Any = []
        if getattr(message, "epoch", client.epoch) == client.epoch:
            self.progress = self.now  # slow is not stuck
        if isinstance(message, tuple):
            sends = client.ready(*message[1:])
        elif isinstance(message, Drawn):
            new, sends = client.drawn(message)
            self.got += new
        elif isinstance(message, Reserved):
            sends = client.reserved(message)
        elif isinstance(message, Ack):
            sends = client.acknowledge(message)
        elif isinstance(message, Broken) and message.epoch == client.epoch:
            client.lost = True
        self.dispatch(sends)
        if client.lost and client.answering:
            self.reopen()

    def dispatch(self, sends: Any) -> None:
        for stage, message in sends:
            self.post("client", stage, message)

    def reopen(self) -> None:
        self.reopened += 1
        self.progress = self.now
        self.client.open(self.stages)
        for stage in range(self.stages):
            self.post("client", stage, ("open", self.client.epoch, self.client.rollback))

    def turn(self, ids: list[int], limit: int, stop_after: int | None) -> None:
        """Runs one answer to its end, or to the reader's stop."""
        self.got = []
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


def conversation(seed: int) -> World:
    """Two or three turns over a ring of 1 to 4 stages: some stopped, some edited, all checked."""
    rng = random.Random(seed)
    chaos = Chaos(
        lose=rng.choice((0, 0, 0.01, 0.1)),
        double=rng.choice((0, 0.05, 0.3)),
        reorder=rng.choice((0, 0, 0.02, 0.3)),
        kill=rng.choice((0, 0, 0.005, 0.03)),
    )
    world = World(rng.randint(1, 4), chaos, rng)
    world.reopen()
    context: list[int] = []
    for _ in range(rng.randint(1, 3)):
        if context and rng.random() < 0.4:
            context = context[: rng.randrange(len(context))]  # the reader edits what was said
        context = context + [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 12))]
        limit = rng.randint(1, 10)
        stop_after = rng.choice((None, None, 0, 1, 3))
        right = expected(context, world.stages, limit)
        world.prompt, world.answer = len(context), right
        world.turn(context, limit, stop_after)
        got = [token.token_id for token in world.got]
        assert got == right[: len(got)], f"schedule {seed}: wrong tokens"
        if stop_after is None:
            assert got == right, f"schedule {seed}: tokens are missing"
        context = context + got
    return world


@pytest.mark.parametrize("block", range(10))
def test_random_schedules_never_lose_double_or_change_a_token(block: int) -> None:
    """Whatever the network does, every answer is the one that a single process gives."""
    size = SCHEDULES // 10
    worlds = [conversation(seed) for seed in range(block * size, (block + 1) * size)]
    assert any(world.kills for world in worlds)
    assert any(world.accepted for world in worlds)
    assert any(world.reopened > 1 for world in worlds)
    assert any(world.reopened == 1 and world.chaos.double for world in worlds)


def part(stage: int = 1, stages: int = 3, room: int = 1000) -> Part:
    mine = Part(b"s" * 16, stage, stages, 1, lambda upto: upto <= room)
    mine.resume(Resume(b"s" * 16, 1, 0, 0, 0))
    return mine


def frame(
    hop: int, start: int, count: int = 1, *, rollback: int = 0, lane: Lane = Lane.BULK, epoch: int = 1
) -> Frame:
    return Frame(b"s" * 16, 1, epoch, lane, hop, rollback, start, count, tuple(range(count)))


def test_a_frame_of_another_epoch_is_dropped() -> None:
    """Only the epoch that the client opened counts."""
    assert part().receive(frame(0, 0, epoch=2)) == []


def test_a_doubled_frame_is_acknowledged_and_not_run_again() -> None:
    """A hop already seen changes nothing."""
    mine = part()
    mine.receive(frame(0, 0, 4))
    mine.receive(frame(0, 0, 4))
    assert mine.length == 4
    assert len(mine.queue) == 1


@pytest.mark.parametrize(
    ("late", "breach"),
    [
        (frame(2, 4), Breach.GAP),
        (frame(1, 5), Breach.POSITION),
        (frame(1, 3), Breach.POSITION),
        (frame(1, 9, rollback=1), Breach.POSITION),
        (frame(1, 4, 2000), Breach.FULL),
    ],
)
def test_a_frame_that_breaks_a_rule_ends_the_part(late: Frame, breach: Breach) -> None:
    """A gap, a wrong position or too little cache is told to the client, and nothing is run."""
    mine = part()
    mine.receive(frame(0, 0, 4))
    [broken] = mine.receive(late)
    assert isinstance(broken, Broken)
    assert broken.breach is breach
    assert mine.ready is None
    assert mine.receive(frame(1, 4)) == []


def test_only_a_higher_rollback_truncates_and_lower_ones_are_skipped() -> None:
    """What comes from before a truncation is acknowledged but not run."""
    mine = part()
    mine.receive(frame(0, 0, 4, rollback=5))
    mine.receive(frame(1, 2, 1, rollback=6))
    assert mine.length == 3
    [ack] = mine.receive(frame(2, 4, 1, rollback=5))
    assert isinstance(ack, Ack)
    assert ack.received == 2
    assert mine.length == 3


def test_a_step_that_was_truncated_while_it_ran_goes_nowhere() -> None:
    """Its output belongs to tokens that the reader took back."""
    mine = part()
    mine.receive(frame(0, 0, 4))
    step = mine.take()
    mine.truncate(Truncate(b"s" * 16, 1, 9, 0))
    actions = mine.finish(step, (0, 0, 0, 0))
    assert [type(action) for action in actions] == [Ack]


def test_a_third_chunk_waits_until_the_first_was_run() -> None:
    """At most two chunks are unrun at the next stage, and no more pile up here."""
    mine = part()
    for hop in range(4):
        mine.receive(frame(hop, hop))
    sent = []
    for _ in range(3):
        sent += [a for a in mine.finish(mine.take(), (0,)) if isinstance(a, Frame)]
    assert [a.hop for a in sent] == [0, 1]
    assert mine.ready is None
    released = mine.acknowledge(Ack(b"s" * 16, 2, 1, Lane.BULK, 1, 0))
    assert [a.hop for a in released if isinstance(a, Frame)] == [2]
    assert mine.ready is not None


def test_the_tail_sends_no_token_into_the_ring_without_credit() -> None:
    """A token is told at once and travels on when its position is granted."""
    mine = part(stage=2)
    mine.begin(Turn(b"s" * 16, 1, TURN, 0, (1, 2), 2, Sampling(), frozenset()))
    mine.receive(frame(0, 0, 2, rollback=TURN))
    step = mine.take()
    assert mine.wants_token(step)
    actions = mine.finish(step, None, [Token(2, 9, 0.0)])
    assert [type(a) for a in actions] == [Drawn, Ack]
    [sent] = mine.grant(Grant(b"s" * 16, 1, TURN, 3))
    assert isinstance(sent, Frame)
    assert (sent.start, sent.payload, sent.lane) == (2, (9,), Lane.DECODE)


def test_a_stop_id_ends_the_answer_at_the_tail() -> None:
    """The token is told with its reason and nothing travels on."""
    mine = part(stage=0, stages=1)
    mine.begin(Turn(b"s" * 16, 1, TURN, 0, (1,), 1, Sampling(), frozenset({9})))
    mine.grant(Grant(b"s" * 16, 1, TURN, 50))
    mine.receive(frame(0, 0, 1, rollback=TURN))
    actions = mine.finish(mine.take(), None, [Token(1, 9, 0.0)])
    assert [type(a) for a in actions] == [Drawn, Ack]
    assert isinstance(actions[0], Drawn)
    assert actions[0].finish is Finish.STOP


def test_what_was_not_received_is_sent_again_after_a_redial() -> None:
    """Frames keep their hop numbers, so the receiver can tell what it has."""
    mine = part()
    mine.receive(frame(0, 0))
    mine.receive(frame(1, 1))
    mine.finish(mine.take(), (0,))
    mine.finish(mine.take(), (0,))
    mine.acknowledge(Ack(b"s" * 16, 2, 1, Lane.BULK, 0, -1))
    assert [a.hop for a in mine.again(Lane.BULK) if isinstance(a, Frame)] == [1]


def test_a_follow_up_sends_only_what_the_caches_lack() -> None:
    """The common prefix stays where it is."""
    world = World(3, Chaos(), random.Random(1))
    world.client = Client(b"s" * 16)
    world.reopen()
    world.turn([1, 2, 3], 3, None)
    sends = world.client.begin([*world.client.ids, 4, 5], Sampling(), 3, frozenset())
    frames = [message for _, message in sends if isinstance(message, Frame)]
    assert sum(message.count for message in frames) == 3  # the last token drawn was never run


class Guess:
    """Proposes the same ids each time, and remembers how that went."""

    def __init__(self, *ids: int) -> None:
        self.ids = ids
        self.judged: list[tuple[int, int]] = []

    def propose(self, room: int) -> tuple[int, ...]:
        return self.ids[:room]

    def judge(self, proposed: int, accepted: int) -> None:
        self.judged.append((proposed, accepted))


@pytest.mark.parametrize(
    ("drawn", "kept", "next_start", "rollback"),
    [
        ((5, 6, 7), (5, 6, 7), 6, TURN),
        ((5, 9), (5, 9), 5, TURN + 1),
        ((9,), (9,), 4, TURN + 1),
        ((5, 8, 7), (5, 8), None, TURN + 1),
    ],
    ids=["all right", "one right", "none right", "a stop among them"],
)
def test_proposals_are_kept_as_far_as_they_were_drawn(
    drawn: tuple[int, ...], kept: tuple[int, ...], next_start: int | None, rollback: int
) -> None:
    """The step that comes around is judged; what follows a wrong proposal is truncated everywhere."""
    mine = part(stage=0, stages=1)
    guess = mine.proposer = Guess(5, 6)
    mine.begin(Turn(b"s" * 16, 1, TURN, 0, (1, 2, 3), 3, Sampling(), frozenset({8})))
    mine.grant(Grant(b"s" * 16, 1, TURN, 50))
    mine.receive(frame(0, 0, 3, rollback=TURN))
    [sent, *_] = mine.finish(mine.take(), None, [Token(3, 4, 0.0)])
    assert isinstance(sent, Frame)
    assert (sent.start, sent.payload) == (3, (4, 5, 6))
    mine.receive(sent)
    step = mine.take()
    assert mine.proposals(step) == (5, 6)
    actions = mine.finish(step, None, [Token(4 + i, token, 0.0) for i, token in enumerate(drawn)])
    told = next(action for action in actions if isinstance(action, Drawn))
    assert tuple(token.token_id for token in told.tokens) == kept
    assert told.rollback == rollback
    assert guess.judged == [(2, len(drawn) - 1)]
    following = [action for action in actions if isinstance(action, Frame)]
    assert [action.start for action in following] == ([] if next_start is None else [next_start])
    assert all(action.rollback == rollback for action in following)


def test_a_log_gives_what_was_sent_in_pieces() -> None:
    """From any position on, after any truncation."""
    log = Log()
    for start in range(0, 12, 3):
        log.append(start, 3, bytes(range(2 * start, 2 * start + 6)))
    assert list(log.pieces(4, 6)) == [(4, 5, bytes(range(8, 18))), (9, 3, bytes(range(18, 24)))]
    log.truncate(7)
    assert (log.end, log.size) == (7, 14)
    assert list(log.pieces(0, 100)) == [(0, 7, bytes(range(14)))]
    log.append(20, 1, b"xx")
    assert (log.first, log.end, log.size) == (20, 21, 2)
