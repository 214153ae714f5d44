"""Answers: a request in words becomes tokens through a session, and tokens become text to show.

``Generator`` keeps the sessions of conversations, so that a next turn sends only what is new, and
has routes planned from the directory's records. It needs a tokenizer and no weights.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from core.errors import PromptError, SwarmError, TooLong
from core.model.config import ModelConfig, ref
from core.model.text import Pieces, Text
from core.ring.client import CHUNK
from core.routing.ask import Ask, Ended, Event, Ids, Moved, Piece, Started, Waiting, check
from core.routing.connections import Connections
from core.routing.planner import Planner
from core.routing.seen import Experience
from core.routing.session import Session
from core.swarm.peer import Peer
from core.terms import Finish, PeerId, Record, Route, Sampling, Token

log = logging.getLogger(__name__)

TRIAL_IDS = (1, 2, 3, 4)
"""What a trial reads: any tokens do,"""
TRIAL_TOKENS = 16
"""and so many new ones;"""
TRIAL_SECONDS = 60.0
"""for so long at most."""
KEPT_SESSIONS = 32
SHARED_LEAST = 16
"""Tokens that a conversation must begin with like another for its donors to be used again."""
ROOM_FOR_ANSWER = 512
"""Tokens kept free for an answer of no stated length, where older turns make way for it."""


@dataclass
class _Kept:
    """A conversation's session; ``lock`` lets one answer at a time through, ``number`` is the planner's
    name for it."""

    number: int
    session: Session
    lock: asyncio.Lock


class Generator:
    """Answers over one model of one swarm. Belongs to one event loop."""

    def __init__(self, peer: Peer, config: ModelConfig, text: Text, *, chunk: int = CHUNK) -> None:
        self.peer, self.config, self.text, self.chunk = peer, config, text, chunk
        self.model = ref(config)
        self._connections = Connections(peer)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._passing: dict[int, _Kept] = {}
        """Answers under way of no conversation, by number."""
        self._planner = Planner(peer, self.model, config.hidden, self._connections)
        self._chance = random.Random()
        self.answered_at = -math.inf
        """When an answer ended last, by ``time.monotonic``."""

    def serves_me(self, donor: PeerId | None) -> None:
        """This donor, the owner's own, serves this peer though it says to others that it is leaving."""
        self._planner.own = donor

    # Answers

    async def generate(self, ask: Ask) -> AsyncIterator[Event]:
        """The events of one answer. Raises ``UserError`` for what cannot be asked, ``SwarmError`` when
        the swarm cannot answer. Close it to stop."""
        check(ask.sampling)
        started = time.monotonic()
        ids, stops, forgotten = self._prompt(ask)
        limit = self._limit(len(ids), ask.max_tokens)
        kept = self._session(ask.conversation, ids)
        try:
            async with kept.lock:
                kept.session.patience = ask.patience
                async with aclosing(kept.session.opening()) as opening:  # type: ignore[type-var]
                    async for waiting in opening:
                        yield waiting
                route = self._planner.begin(kept.number, await kept.session.open())
                reused = kept.session.common(ids)
                yield Started(self.model.model_id, route, len(ids), reused, forgotten)
                pieces = Pieces(self.text, stops)
                answer = kept.session.answer(ids, ask.sampling, limit, self.text.stops)
                shown = self._show(kept, answer, pieces, started=started, prompt=len(ids), route=route)
                async with aclosing(shown) as events:  # type: ignore[type-var]
                    async for event in events:
                        yield event
        finally:
            self._planner.end(kept.number)
            if self._passing.pop(kept.number, None) is not None:
                self._close(kept)

    async def _show(
        self,
        kept: _Kept,
        answer: AsyncIterator[Token | Waiting],
        pieces: Pieces,
        *,
        started: float,
        prompt: int,
        route: Route,
    ) -> AsyncIterator[Event]:
        session = kept.session
        moves = session.moves
        first = last = time.monotonic()
        ids: list[int] = []
        shown: list[str] = []
        held: list[Token] = []
        finish = Finish.LENGTH
        async with aclosing(answer) as tokens:  # type: ignore[type-var]
            async for token in tokens:
                if isinstance(token, Waiting):
                    yield token
                    continue
                before, last = last, time.monotonic()
                if session.moves != moves and session.route is not None:
                    moves = session.moves
                    route = self._planner.begin(kept.number, session.route)
                    yield Moved(route, last - before)
                first = last if not ids else first
                ids.append(token.token_id)
                if token.token_id in self.text.stops:
                    finish = Finish.STOP
                    break
                held.append(token)
                words = pieces.feed(token.token_id)
                if words:
                    shown.append(words)
                    yield Piece(words, tuple(held))
                    held = []
                if pieces.stopped:
                    finish = Finish.STOP
                    break
        if ids and session.route is not None:
            self._planner.answered(kept.number, session.route, session.pace)
            self.answered_at = time.monotonic()
        rest = pieces.finish()
        if rest or held:
            shown.append(rest)
            yield Piece(rest, tuple(held))
        yield Ended(
            finish,
            "".join(shown),
            tuple(ids),
            prompt,
            time.monotonic() - started,
            first - started,
            (len(ids) - 1) / (last - first) if len(ids) > 1 and last > first else 0.0,
            route.predicted_seconds,
        )

    def _prompt(self, ask: Ask) -> tuple[list[int], tuple[str, ...], int]:
        """Token ids of what was asked, the texts that end the answer, and how many messages are left out."""
        stops, forgotten = ask.stop, 0
        if isinstance(ask.prompt, Ids):
            return self._checked(ask.prompt), stops, forgotten
        if isinstance(ask.prompt, str):
            words = ask.prompt
        else:
            if not any(message.text.strip() for message in ask.prompt):
                raise PromptError("the message is empty", "Write something first.")
            told = ask.prompt
            if ask.forgets:
                kept, forgotten = self.text.fit(told, self.config.max_length - self._reserve(ask))
                told = tuple(kept)
            words = self.text.chat(told)
            stops = (*stops, *self.text.chat_stops)
        ids = self.text.encode(words)
        if not ids:
            raise PromptError("the prompt is empty", "Write something first.")
        return ids, stops, forgotten

    def _checked(self, prompt: Ids) -> list[int]:
        if not prompt.ids:
            raise PromptError("the prompt is empty", "Write something first.")
        for token_id in prompt.ids:
            if not 0 <= token_id < self.config.vocab:
                raise PromptError(
                    f"there is no token {token_id}", f"This model has tokens 0 to {self.config.vocab - 1}."
                )
        return list(prompt.ids)

    def _reserve(self, ask: Ask) -> int:
        """Tokens of the model's length that a conversation leaves to its next answer."""
        return ask.max_tokens or min(ROOM_FOR_ANSWER, self.config.max_length // 4)

    def _limit(self, prompt: int, wanted: int | None) -> int:
        """New tokens that the model's length leaves room for."""
        room = self.config.max_length - prompt
        if room < 1 or (wanted is not None and wanted > room):
            raise TooLong(prompt, self.config.max_length)
        if wanted is not None and wanted < 1:
            raise PromptError("an answer needs at least one token", "Ask for one or more.")
        return wanted or room

    # Sessions

    def _session(self, conversation: str | None, ids: Sequence[int]) -> _Kept:
        kept = self._kept.get(conversation) if conversation is not None else None
        if kept is None:
            number = self._chance.getrandbits(63)
            way = partial(self._planner.way, number)
            session = Session(
                self._connections,
                way,
                self.config.max_length,
                chunk=self.chunk,
                report=self._planner.trouble,
            )
            self._share(session, ids)
            kept = _Kept(number, session, asyncio.Lock())
            if conversation is not None:
                self._kept[conversation] = kept
            else:
                self._passing[number] = kept
        if conversation is not None:
            self._kept.move_to_end(conversation)
            self._drop_oldest()
        return kept

    def _share(self, session: Session, ids: Sequence[int]) -> None:
        """A system prompt that another conversation began with, or an answer of an API's that is under way,
        is not computed again."""
        others = [kept.session for kept in (*self._kept.values(), *self._passing.values())]
        best = max(others, key=lambda other: other.alike(ids), default=None)
        if best is not None and best.alike(ids) >= SHARED_LEAST:
            session.take_over(best, ids)

    def _drop_oldest(self) -> None:
        for conversation, kept in list(self._kept.items()):
            if len(self._kept) <= KEPT_SESSIONS:
                return
            if not kept.lock.locked():
                self._close(kept)
                del self._kept[conversation]

    def forget(self, conversation: str) -> None:
        """Frees what the donors hold of a conversation."""
        kept = self._kept.pop(conversation, None)
        if kept is not None:
            self._close(kept)

    def _close(self, kept: _Kept) -> None:
        kept.session.close()
        self._planner.forget(kept.number)

    def close(self) -> None:
        for kept in (*self._kept.values(), *self._passing.values()):
            self._close(kept)
        self._kept.clear()
        self._passing.clear()

    async def leave(self) -> None:
        """Closes everything, and gives the messages a moment to leave."""
        self.close()
        await asyncio.sleep(0.05)
        self._connections.close()
        await self._planner.close()

    @property
    def experience(self) -> Experience:
        """What was seen of the donors here."""
        return self._planner.experience

    @property
    def whole(self) -> bool:
        """Whether all layers are served by donors that have not failed here again and again."""
        return self._planner.whole

    async def read_over(self, records: Collection[Record]) -> frozenset[PeerId]:
        """Reads a few words over a route made of these donors, whatever else is known, and around those who
        fail. Returns who answered: nobody where that failed. What it showed of them is learnt."""
        number, tokens = self._chance.getrandbits(63), 0
        way = partial(self._planner.way_over, records, number)
        session = Session(
            self._connections, way, self.config.max_length, chunk=self.chunk, report=self._planner.trouble
        )
        session.patience = TRIAL_SECONDS / 4
        # A drawn text repeats itself less: its rounds are of one token, as most are.
        sampling = Sampling(temperature=1.0, seed=number & 0xFFFFFFFF)
        try:
            async with (
                asyncio.timeout(TRIAL_SECONDS),
                aclosing(session.answer(TRIAL_IDS, sampling, TRIAL_TOKENS, frozenset())) as answer,  # type: ignore[type-var]
            ):
                async for token in answer:
                    tokens += isinstance(token, Token)
            if session.route is None or tokens < TRIAL_TOKENS:
                return frozenset()
            self._planner.answered(number, session.route, session.pace)
            return frozenset(stage.peer_id for stage in session.route.stages)
        except (SwarmError, TimeoutError) as error:  # who failed is known now
            log.info("a trial of the swarm: %s", error)
            return frozenset()
        finally:
            session.close()
            self._planner.forget(number)

    async def records(self, *, fresh: bool = False) -> tuple[Record, ...]:
        """The donors of this model: as last read, or read now."""
        return await self._planner.records(fresh=fresh)

    async def glance(self, age: float) -> tuple[Record, ...]:
        """The same for who only looks: not older than ``age`` seconds, or than reading so many allows."""
        return await self._planner.glance(age)

    async def believed(self, *, fresh: bool = False) -> tuple[Record, ...]:
        """The same as far as what was seen of them here agrees."""
        return await self._planner.believed(fresh=fresh)
