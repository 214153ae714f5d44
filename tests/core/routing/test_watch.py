"""Silences, and who is to blame for them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from core.routing.lateness import Lateness
from core.routing.watch import HUNG_SECONDS, ROW_SECONDS, AskAll, Blame, Wait, Watch
from core.swarm.messages import Pulse
from core.terms import PeerId


@dataclass
class Way:
    round_trip: float = 0.1
    remote: PeerId = PeerId("?")


class Case:
    """A ring of three stages and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lateness = Lateness(lambda: self.now)
        self.watch = Watch(lambda: self.now, self.lateness)
        self.stages = [Way(remote=PeerId(name)) for name in "abc"]

    def check(self, later: float = 0.0) -> Wait | AskAll | Blame:
        self.now += later
        return self.watch.check(self.stages)

    def due(self) -> AskAll | Blame:
        """Goes on to the next thing to do."""
        while isinstance(found := self.check(), Wait):
            self.now += found.seconds
        return found

    def probed(self) -> int:
        """The number of the next probe."""
        found = self.due()
        assert isinstance(found, AskAll)
        return found.number

    def pulse(
        self,
        stage: int,
        number: int,
        length: int = 10,
        ran: int = 10,
        *,
        rollback: int = 0,
        running: bool = False,
    ) -> None:
        self.watch.heard()
        self.watch.pulse(Pulse(b"s" * 16, stage, 1, number, length, ran, rollback, running))

    def tokens(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.now += seconds
            self.watch.heard()
            self.watch.token()


def test_a_ring_that_speaks_is_left_alone() -> None:
    """However slow its steps are."""
    case = Case()
    for _ in range(20):
        case.tokens(1, 0.9)
        assert isinstance(case.check(), Wait)


def test_patience_follows_the_rings_own_step() -> None:
    """A fast ring is probed soon, a slow one later, none at once."""
    fast, slow = Case(), Case()
    fast.tokens(10, 0.01)
    slow.tokens(10, 0.5)
    begun = (fast.now, slow.now)
    fast.probed()
    slow.probed()
    assert 0.2 < fast.now - begun[0] < 0.4
    assert 1.8 < slow.now - begun[1] < 2.2


def test_a_stage_that_does_not_answer_is_lost_in_two_round_trips_and_a_little() -> None:
    """Those that answer are not blamed."""
    case = Case()
    case.tokens(10, 0.05)
    number = case.probed()
    asked = case.now
    case.pulse(0, number)
    case.pulse(2, number)
    assert case.due() == Blame(1, "it does not answer", silent=True)
    assert 0.4 < case.now - asked < 0.5


def test_a_far_stage_gets_its_own_time() -> None:
    """Two of its round trips."""
    case = Case()
    case.stages[1] = Way(1.0)
    number = case.probed()
    case.pulse(0, number)
    case.pulse(2, number)
    assert isinstance(case.check(1.5), Wait)
    case.pulse(1, number)
    assert not isinstance(case.check(), Blame)


def test_a_frame_that_never_arrives_is_the_next_stages_loss() -> None:
    """All answer, nothing waits or runs, and the second stage has less than the first has run."""
    case = Case()
    case.tokens(10, 0.05)
    while isinstance(found := case.due(), AskAll):
        for stage, length in enumerate((11, 10, 10)):
            case.pulse(stage, found.number, length, length)
    assert found == Blame(1, "what is sent to it does not arrive")


def test_who_has_sent_to_two_in_vain_is_left_itself() -> None:
    """The first time it is the receiver, who may have a replica; after a token all is forgotten."""
    case = Case()

    def stuck() -> Blame:
        while isinstance(found := case.due(), AskAll):
            for stage, length in enumerate((10, 11, 10)):
                case.pulse(stage, found.number, length, length)
        case.watch.begin()
        return found

    case.tokens(10, 0.05)
    assert [stuck().stage, stuck().stage] == [2, 1]
    case.tokens(1, 0.05)
    assert stuck().stage == 2


def test_a_long_step_is_waited_for_but_not_for_ever() -> None:
    """A stage with work waiting or running is slow, until it has been for very long."""
    case = Case()
    begun = case.now
    while isinstance(found := case.due(), AskAll):
        for stage in range(3):
            case.pulse(stage, found.number, 20 if stage == 1 else 10, running=stage == 1)
    assert found == Blame(1, "its step does not end")
    assert case.now - begun > HUNG_SECONDS


def test_a_prompt_on_a_slow_link_is_waited_for() -> None:
    """Until the first token, frames of megabytes may be on their way for seconds, and nobody is to blame."""
    case = Case()
    begun = case.now
    while isinstance(found := case.due(), AskAll):
        for stage, ran in enumerate((128, 0, 0)):
            case.pulse(stage, found.number, ran, ran)
    assert found == Blame(1, "what is sent to it does not arrive")
    assert case.now - begun > 128 * ROW_SECONDS


def test_a_stage_that_missed_a_truncation_is_the_one_that_is_behind() -> None:
    """Although it holds more than the next: guesses that were wrong."""
    case = Case()
    case.tokens(10, 0.05)
    while isinstance(found := case.due(), AskAll):
        for stage, (length, rollback) in enumerate(((11, 1), (14, 0), (10, 1))):
            case.pulse(stage, found.number, length, length, rollback=rollback)
    assert found == Blame(1, "what is sent to it does not arrive")


def test_a_stage_that_has_lately_answered_late_gets_more_time() -> None:
    """A busy PC is not a dead one."""
    case = Case()
    case.tokens(10, 0.05)
    case.lateness.answered(PeerId("b"), 0.4)
    number = case.probed()
    asked = case.now
    case.pulse(0, number)
    case.pulse(2, number)
    assert case.due() == Blame(1, "it does not answer", silent=True)
    assert 1.3 < case.now - asked < 1.5


def test_who_was_frozen_once_is_not_waited_for_long() -> None:
    """Nor are others, whom its lateness says nothing of; and blaming in vain multiplies neither."""
    case = Case()
    case.tokens(10, 0.05)
    case.lateness.answered(PeerId("b"), 3.0)
    for _ in range(4):
        for frozen in (1, 2):
            number = case.probed()
            asked = case.now
            for stage in {0, 1, 2} - {frozen}:
                case.pulse(stage, number)
            assert case.due() == Blame(frozen, "it does not answer", silent=True)
            assert case.now - asked < 2.3
            case.watch.begin()


def test_what_a_stall_took_is_no_step() -> None:
    """The next silence is looked into as soon as before."""
    case = Case()
    case.tokens(10, 0.1)
    case.tokens(1, 5.0)
    begun = case.now
    case.probed()
    assert case.now - begun < 1.0


def test_late_answers_to_probes_are_learnt_from() -> None:
    """The next probe waits longer for everyone, until answers come in time again."""
    case = Case()
    case.tokens(10, 0.05)
    number = case.probed()
    case.now += 0.35
    for stage in range(3):
        case.pulse(stage, number)
    number = case.probed()
    case.pulse(0, number)
    assert isinstance(case.check(0.7), Wait)


def test_a_reader_that_overslept_blames_nobody_for_that() -> None:
    """What it could not hear while it did not run is no silence of theirs."""
    case = Case()
    case.tokens(10, 0.05)
    case.probed()
    assert isinstance(case.check(), Wait)
    assert isinstance(case.check(1.5), Wait)


def test_where_nobody_answers_they_get_twice_the_time() -> None:
    """It may be the reader's own network."""
    case = Case()
    case.tokens(10, 0.05)
    case.probed()
    asked = case.now
    assert case.due() == Blame(0, "it does not answer", silent=True)
    assert 0.8 < case.now - asked < 1.0


def test_where_most_donors_answer_late_nobody_is_blamed_for_a_silence_as_long() -> None:
    """Sessions of one reader learn from each other: it is their PC that is slow."""
    case = Case()
    other = Case()
    other.watch = Watch(lambda: other.now, case.lateness)
    number = other.probed()
    case.now = other.now = other.now + 1.5
    for stage in range(3):
        other.pulse(stage, number)
    case.tokens(10, 0.05)
    number = case.probed()
    case.pulse(0, number)
    assert isinstance(case.check(3.0), Wait)
    assert isinstance(case.due(), Blame)


def test_silences_blamed_in_vain_make_the_next_longer() -> None:
    """Until a token comes: while routes break one after the other it is not the donors that are to blame."""
    case = Case()

    def silence() -> float:
        number = case.probed()
        asked = case.now
        case.pulse(0, number)
        case.pulse(2, number)
        assert isinstance(case.due(), Blame)
        case.watch.begin()
        return case.now - asked

    first, second, third = silence(), silence(), silence()
    assert second > 1.4 * first
    assert third > 1.4 * second
    case.tokens(1, 0.05)
    assert silence() < 1.1 * first


def starved(seed: int, waits: float) -> tuple[int, int]:
    """A simulated PC that stands still now and then under eight readers for a minute: how many healthy
    donors are blamed, and whether one that is dead then is found. ``waits``: how late answers become."""
    chance = Random(seed)
    cases = [Case() for _ in range(8)]
    for case in cases:
        case.watch = Watch(lambda case=case: case.now, cases[0].lateness)  # type: ignore[misc]
    blamed = 0
    for _ in range(60):
        for case in cases:
            case.now = max(other.now for other in cases)
            case.watch.begin()
            case.tokens(2, 0.1)
            number = case.probed()
            until = case.now + chance.uniform(0.5, 1.0) * waits
            while case.now < until and isinstance(found := case.check(), Wait):
                case.now += min(found.seconds, until - case.now)
            blamed += isinstance(found, Blame)
            for stage in range(3):
                case.pulse(stage, number)
    case = cases[0]
    case.watch.begin()
    number = case.probed()
    case.pulse(0, number)
    case.pulse(2, number)
    found = case.due()
    assert isinstance(found, Blame)
    return blamed, found.stage


def test_starvation_is_not_death() -> None:
    """Answers come seconds late, to all readers: hardly anyone healthy is blamed, who is dead still is."""
    for seed in range(5):
        blamed, dead = starved(seed, 2.0)
        assert blamed <= 3
        assert dead == 1
