"""One stage's part: what it takes, what it refuses, what it sends on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from core.ring.frames import (
    NOWHERE,
    TURN,
    Ack,
    Action,
    Breach,
    Broken,
    Drawn,
    Frame,
    Grant,
    Lane,
    Resume,
    Truncate,
    Turn,
)
from core.ring.part import Part, Step
from core.terms import Finish, Sampling, Token


def part(stage: int = 1, stages: int = 3, room: int = 1000) -> Part:
    mine = Part(b"s" * 16, stage, stages, 1, lambda upto: upto <= room)
    mine.resume(Resume(b"s" * 16, mine.stage, 1, 0, 0, 0))
    return mine


def frame(
    hop: int, start: int, count: int = 1, *, rollback: int = 0, lane: Lane = Lane.BULK, epoch: int = 1
) -> Frame:
    return Frame(b"s" * 16, 1, epoch, lane, hop, rollback, start, count, tuple(range(count)))


def test_a_frame_of_another_epoch_is_dropped() -> None:
    """Only the epoch that the client opened counts."""
    assert part().receive(frame(0, 0, epoch=2)) == []


def test_terms_that_a_later_turn_has_overtaken_hide_nothing_of_it() -> None:
    """The next stage holds positions of the turn before, which it must not keep."""
    mine = Part(b"s" * 16, 1, 3, 1, lambda upto: True)
    mine.receive(frame(0, 0, 4))
    mine.receive(frame(1, 2, 2, rollback=2 * TURN))
    mine.resume(Resume(b"s" * 16, 1, 1, TURN, 4, 4))
    assert mine.emit_from == 2


def test_a_stage_that_is_behind_still_runs_what_a_truncation_leaves() -> None:
    """One that is being filled may lack positions that the ring's tail has long drawn from."""
    mine = part()
    mine.receive(frame(0, 0, 4))
    mine.receive(frame(1, 4, 4))
    running = mine.take(3)
    mine.receive(frame(2, 6, 2, rollback=1))
    mine.finish(running, (0, 1, 2))
    ran = [(step.start, step.count) for step in iter_steps(mine)]
    assert ran == [(3, 1), (4, 2), (6, 2)]
    assert mine.ran == mine.log.end == 8


def test_a_step_under_way_counts_up_to_where_a_truncation_cut_it() -> None:
    """What it ran before that is as right as ever."""
    mine = part()
    mine.receive(frame(0, 0, 4))
    running = mine.take()
    mine.receive(frame(1, 2, 2, rollback=1))
    mine.finish(running, (0, 1, 2, 3))
    assert mine.ran == mine.log.end == 2
    assert [(step.start, step.count) for step in iter_steps(mine)] == [(2, 2)]


def iter_steps(mine: Part) -> Iterator[Step]:
    """Runs all that waits; the next stage keeps up."""
    while mine.ready is not None:
        step = mine.take()
        yield step
        mine.finish(step, (0,) * step.count)
        mine.acknowledge(Ack(b"s" * 16, 2, 1, Lane.BULK, 99, 99))


def test_a_tail_that_is_filled_draws_nothing() -> None:
    """It runs what comes, and says nothing to anyone but that; only the serving tail truncates."""
    mine = Part(b"s" * 16, 2, 3, 1, lambda upto: True)
    mine.resume(Resume(b"s" * 16, 2, 1, TURN, 0, NOWHERE))
    mine.receive(replace(frame(0, 0, 4, rollback=TURN), stage=2))
    mine.receive(replace(frame(1, 2, 2, rollback=TURN + 1), stage=2))
    for step in iter_steps(mine):
        assert not mine.wants_token(step)
    assert mine.is_silent
    assert (mine.ran, mine.rollback) == (4, TURN + 1)


def test_what_is_sent_to_a_replacement_goes_on_below_a_truncation() -> None:
    """Rows of the log that still wait to be sent are no less right for a wrong guess behind them."""
    mine = part()
    for hop in range(4):
        mine.receive(frame(hop, 200 * hop, 200))
        mine.finish(mine.take(), (hop,) * 200)
        mine.acknowledge(Ack(b"s" * 16, 2, 1, Lane.BULK, hop, hop))
    sent = frames(mine.copy(9))
    mine.receive(frame(4, 790, 20, rollback=1))
    mine.finish(mine.take(), (4,) * 20)
    hop = 0
    while len(sent) > hop:
        sent += frames(mine.acknowledge(Ack(b"s" * 16, 2, 9, Lane.BULK, hop, hop)))
        hop += 1
    rows = [row for one in sent for row in range(one.start, one.start + one.count)]
    assert rows == list(range(810))


def frames(actions: Sequence[Action]) -> list[Frame]:
    return [action for action in actions if isinstance(action, Frame) and action.epoch == 9]


def test_a_frame_that_leaves_a_gap_behind_what_is_kept_ends_the_part() -> None:
    """Positions between the two would be of another text."""
    mine = Part(b"s" * 16, 1, 3, 2, lambda upto: True, before=held_eight())
    mine.receive(frame(0, 6, 2, rollback=TURN, epoch=2))
    (said,) = mine.resume(Resume(b"s" * 16, 1, 2, TURN, 4, 4))
    assert isinstance(said, Broken)
    assert said.breach is Breach.POSITION


def test_who_is_filled_again_in_the_same_turn_begins_where_the_terms_say() -> None:
    """A first try has left something of the same count."""
    mine = Part(b"s" * 16, 1, 3, 2, lambda upto: True, before=held_eight())
    mine.resume(Resume(b"s" * 16, 1, 2, 0, 0, NOWHERE))
    assert (mine.ran, mine.length, mine.log.end) == (0, 0, 0)


def held_eight() -> Part:
    """A part that has run eight positions."""
    mine = part()
    mine.receive(frame(0, 0, 8))
    mine.finish(mine.take(), (0,) * 8)
    return mine


def test_terms_are_for_one_stage() -> None:
    """A peer may be several of one route."""
    mine = Part(b"s" * 16, 1, 3, 1, lambda upto: True)
    mine.resume(Resume(b"s" * 16, 0, 1, 0, 0, 0))
    assert not mine.resumed


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


def test_on_a_long_way_more_is_under_way_but_no_more_is_left_unrun() -> None:
    """Frames leave until the wire is full; once they have arrived, they count as held."""
    mine = Part(b"s" * 16, 1, 3, 1, lambda upto: True, way=lambda: 6)
    mine.resume(Resume(b"s" * 16, mine.stage, 1, 0, 0, 0))
    for hop in range(8):
        mine.receive(frame(hop, 2 * hop, 2))
    sent = []
    for _ in range(4):
        sent += [a for a in mine.finish(mine.take(), (0, 0)) if isinstance(a, Frame)]
    assert [a.hop for a in sent] == [0, 1, 2]  # six of payload are under way
    assert mine.ready is None
    arrived = mine.acknowledge(Ack(b"s" * 16, 2, 1, Lane.BULK, 2, -1))
    assert arrived == []  # three are held there, unrun
    ran = mine.acknowledge(Ack(b"s" * 16, 2, 1, Lane.BULK, 2, 1))
    assert [a.hop for a in ran if isinstance(a, Frame)] == [3]


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
