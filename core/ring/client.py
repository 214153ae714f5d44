"""The reader's side of one session."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from core.ring.frames import (
    NOWHERE,
    TURN,
    Ack,
    Drawn,
    Frame,
    Grant,
    Lane,
    Request,
    Reserve,
    Reserved,
    Resume,
    Standing,
    Truncate,
    Turn,
    turn_of,
)
from core.ring.outbox import Outbox
from core.terms import Sampling, Token

CHUNK = 160
"""At most so many tokens of a prompt go through the ring at once. A batch of so many rows takes hardly
longer than one row where reading the weights binds; fewer would cost more steps, more would let later stages
wait."""


def _any_ids() -> int:
    """Token ids are small: a whole prompt may be on its way to the entry."""
    return 1 << 24


class Client:
    """The reader's side of one session: its ids, its turns, its credit.

    Methods return what to send, as pairs of a stage's index and a message. ``chunk`` is how many
    prompt tokens a frame carries at most, ``window`` how far ahead of the answer credit is asked for.
    """

    def __init__(self, session: bytes, *, chunk: int = CHUNK, window: int = 64) -> None:
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
        self._out = Outbox(Lane.BULK, _any_ids)
        self._fill: Outbox | None = None
        self._fill_epoch = self._ahead_epoch = 0

    @property
    def is_open(self) -> bool:
        return 0 < self.stages == len(self._standing)

    @property
    def ready_stages(self) -> frozenset[int]:
        return frozenset(self._standing)

    def adopt(self, ids: Sequence[int]) -> None:
        """Stages may hold these from another session; each tells when it is ready. Before the first turn."""
        self.ids = list(ids)

    def open(self, stages: int) -> None:
        """A new epoch over ``stages`` stages. The caller opens them and reports each with ``ready``; a
        turn under way goes on from the tokens held."""
        self._begin_epoch(max(self.epoch, self._fill_epoch, self._ahead_epoch) + 1, stages)

    def _begin_epoch(self, epoch: int, stages: int) -> None:
        self.epoch, self.stages = epoch, stages
        self._fill = None
        self.lost = False
        self._resumed = False
        self._standing.clear()
        self._out = Outbox(Lane.BULK, _any_ids)

    def ask_ahead(self) -> int:
        """An epoch that stages are asked to open while this one goes on."""
        self._ahead_epoch = max(self.epoch, self._fill_epoch, self._ahead_epoch) + 1
        return self._ahead_epoch

    def change_over(
        self, epoch: int, standings: Mapping[int, Standing], staying: Collection[int]
    ) -> list[tuple[int, Request]]:
        """Begins the epoch that all stages have opened ahead, with what they held then. Those
        ``staying`` have gone on since: what this client holds they have run."""
        self._begin_epoch(epoch, len(standings))
        now = self._truncated[-1][0] if self._truncated else self.rollback
        for stage, told in standings.items():
            stays = stage in staying and told.length <= self.cached
            self._standing[stage] = Standing(now, self.cached, told.log_from) if stays else told
        return self._launch() if self.answering else []

    def ready(self, stage: int, epoch: int, standing: Standing) -> list[tuple[int, Request]]:
        """A stage has acknowledged the epoch, with what it holds."""
        if epoch != self.epoch or stage in self._standing or not 0 <= stage < self.stages:
            return []
        self._standing[stage] = standing
        return self._launch() if self.is_open and self.answering else []

    # Filling a replacement while the ring goes on

    def fill(self) -> int:
        """The epoch in which a replacement is filled."""
        self._fill = None
        self._fill_epoch = max(self.epoch, self._fill_epoch, self._ahead_epoch) + 1
        return self._fill_epoch

    def fill_terms(self, stage: int, epoch: int) -> Resume:
        """For the replacement: run all, neither draw nor send anything on."""
        return Resume(self.session, stage, epoch, self.rollback, 0, NOWHERE)

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
        """The ids from ``start`` on, in near-equal chunks for the entry: a small rest costs a whole step."""
        count = len(self.ids) - start
        size = -(-count // max(-(-count // self.chunk), 1))
        for first in range(start, len(self.ids), max(size, 1)):
            ids = tuple(self.ids[first : first + size])
            yield Frame(self.session, 0, epoch, Lane.BULK, -1, self.rollback, first, len(ids), ids)

    def holds(self, ids: Sequence[int]) -> int:
        """How many of these tokens need not be sent and run again everywhere."""
        if not self.is_open:
            return 0
        alike = min(common(self.ids, ids), len(ids) - 1)
        if self._resumed:
            return min(alike, self.cached)
        return min(alike, *self._keeps(alike))

    def begin(
        self, ids: Sequence[int], sampling: Sampling, max_tokens: int, stops: frozenset[int]
    ) -> list[tuple[int, Request]]:
        """An answer of at most ``max_tokens`` tokens to the whole context ``ids``; only what the
        caches do not hold is sent."""
        if not ids or max_tokens < 1:
            raise ValueError("a turn needs at least one token in and one out")
        keep = min(common(self.ids, ids), len(ids) - 1)
        self.cached = min(self.cached, keep)
        self.ids = list(ids)
        self._fill = None  # it was of the turn before
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
        if message.epoch != self.epoch or turn_of(message.rollback) != self.rollback or not self.answering:
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
            sends.append((stage, Resume(self.session, stage, self.epoch, self.rollback, keep, emit_from)))
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


def common(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    for count, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return count
    return min(len(ours), len(theirs))
