"""Answers that belong to the node: they go on when the page is reloaded, and every tab hears of them.

A page joins, says which conversation it shows, and hears all that happens in that one. An answer is kept in
the history while it grows. When the last page goes, answers run on for a while for one to return.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from core.errors import DiskError, IdlebloomError
from core.routing.ask import Ask, Ended, Event, Message, Moved, Piece, Started, Waiting
from core.terms import Record, Route, Sampling
from webchat.history import Conversation, Entry, History
from webchat.markup import render, settled
from webchat.reader import Reader, Stream
from webchat.refusals import Refusal, error_shape
from webchat.snapshots import (
    Shape,
    conversation_shape,
    entry_shape,
    page_length,
    route_shape,
    short_name,
    span_shape,
)
from webchat.tally import Tally, ended_shape
from webchat.unplug import Unplugging

log = logging.getLogger(__name__)

LINGER_SECONDS = 30.0
KEEP_SECONDS = 2.0
"""How often a growing answer is written down."""


class Page(Protocol):
    """A page that is open. ``hear`` never waits."""

    shows: str | None

    def hear(self, kind: str, fields: Mapping[str, object]) -> None: ...


@dataclass(frozen=True)
class How:
    """How an answer is to be drawn."""

    sampling: Sampling = Sampling()
    max_tokens: int | None = None


@dataclass(frozen=True)
class Question:
    """``parent`` is the answer before it; ``system`` is for a conversation that begins with it."""

    conversation: str | None
    parent: str | None
    text: str
    system: str = ""


@dataclass
class Running:
    """An answer that is being made."""

    entry: Entry
    stream: Stream[Event]
    facts: dict[str, object]
    text: str = ""
    settled: int = 0
    """So much of ``text`` is whole blocks, shown as markup."""
    kept: float = 0.0
    moves: list[float] = field(default_factory=list)
    route: Route | None = None
    waits: list[Shape | None] | None = None
    """The layers that it waits for, while it does."""
    pieces: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def shape(self) -> Shape:
        now = replace(self.entry, text=self.text, facts=self.facts)
        html = render(self.text[: self.settled]) if self.settled else ""
        upto = page_length(self.text[: self.settled])
        return {**entry_shape(now), "html": html, "upto": upto, "waiting": self.waits}


class Answers:
    """Everything here may be called from any thread."""

    def __init__(self, reader: Reader, history: History, linger: float = LINGER_SECONDS) -> None:
        self.history, self._reader, self._linger = history, reader, linger
        self._pages: list[Page] = []
        self._running: dict[str, Running] = {}
        self._turn = threading.RLock()
        self._leaving: threading.Timer | None = None
        self.unplugging: Unplugging | None = None

    # Pages

    def join(self, page: Page) -> None:
        with self._turn:
            self._pages.append(page)
            if self._leaving is not None:
                self._leaving.cancel()
                self._leaving = None

    def leave(self, page: Page) -> None:
        with self._turn:
            if page in self._pages:
                self._pages.remove(page)
            if not self._pages and self._running and self._leaving is None:
                self._leaving = threading.Timer(self._linger, self._give_up)
                self._leaving.daemon = True
                self._leaving.start()

    def show(self, page: Page, conversation: str | None) -> None:
        """From now on ``page`` hears of this conversation; first all of it, as it is now."""
        with self._turn:
            page.shows = conversation
            if conversation is None:
                return
            found = self.history.conversation(conversation)
            if found is None:
                page.hear("deleted", {"conversation": conversation})
            else:
                page.hear("shown", {"conversation": conversation, **self.shape(found)})

    def shape(self, conversation: Conversation) -> Shape:
        """A conversation with all its messages; one that is being made is as far as it has come."""
        with self._turn:
            entries = self.history.entries(conversation.id)
            running = self._running.get(conversation.id)
            shapes = [
                running.shape() if running is not None and one.id == running.entry.id else entry_shape(one)
                for one in entries
            ]
        return {**conversation_shape(conversation), "leaf": conversation.leaf, "messages": shapes}

    def tell_of_list(self) -> None:
        """The list of conversations has changed."""
        with self._turn:
            for page in self._pages:
                page.hear("conversations", {})

    def _tell(self, conversation: str, kind: str, **fields: object) -> None:
        with self._turn:
            for page in self._pages:
                if page.shows == conversation:
                    page.hear(kind, {"conversation": conversation, **fields})

    # Questions

    def ask(self, page: Page, asked: Question, how: How) -> None:
        """Without a conversation it begins one, which ``page`` then shows."""
        conversation, parent = asked.conversation, asked.parent
        if conversation is None:
            conversation, parent = self.history.begin(asked.text, asked.system).id, None
            page.shows = conversation
        elif self.history.conversation(conversation) is None:
            raise _gone()
        elif parent is not None:
            before = self.history.entry(parent)
            if before is None or (before.conversation, before.role) != (conversation, "assistant"):
                raise _gone()
        self.stop(conversation)
        question = self.history.add(conversation, parent, "user", asked.text)
        self._answer(question, how, told=(question,))

    def again(self, conversation: str, question: str, how: How) -> None:
        """Another answer to a question, beside those it has."""
        asked = self.history.entry(question)
        if asked is None or (asked.conversation, asked.role) != (conversation, "user"):
            raise _gone()
        self.stop(conversation)
        self._answer(asked, how, told=())

    def _answer(self, question: Entry, how: How, told: Sequence[Entry]) -> None:
        conversation = question.conversation
        path = self.history.path(question.id)
        facts: dict[str, object] = {"seed": how.sampling.seed if how.sampling.temperature > 0 else None}
        entry = self.history.add(conversation, question.id, "assistant", "", state="running", facts=facts)
        kept = whole_turns(path)
        about = self.history.conversation(conversation)
        ask = Ask(
            prompt=_messages(about.system if about is not None else "", kept),
            max_tokens=how.max_tokens,
            sampling=how.sampling,
            conversation=f"page:{conversation}",
            forgets=True,
        )
        try:
            running = Running(entry, self._reader.generate(ask), facts)
        except Exception as error:
            self.history.keep(entry.id, "", "failed", {"error": error_shape(error)})
            raise
        with self._turn:
            before = self._running.get(conversation)
            if before is not None:  # another tab asked at the same time
                before.stream.close()
            self._running[conversation] = running
            shapes = [entry_shape(one) for one in (*told, entry)]
            self._tell(conversation, "said", messages=shapes)
        self.tell_of_list()
        threading.Thread(target=self._run, args=(running, kept), name="answer", daemon=True).start()

    def choose(self, conversation: str, leaf: str | None, system: str | None) -> None:
        """Another branch is to be shown, or the model to be told something else first."""
        if leaf is not None:
            found = self.history.entry(leaf)
            if found is None or found.conversation != conversation:
                raise _gone()
        self.history.change(conversation, leaf=leaf, system=system)

    def stop(self, conversation: str) -> None:
        """Returns when the answer has ended and is kept."""
        with self._turn:
            running = self._running.get(conversation)
        if running is not None:
            running.stream.close()
            running.done.wait(30)

    def forget(self, conversation: str | None) -> None:
        """Delete one conversation or all, with what donors hold of them."""
        chosen = [one.id for one in self.history.conversations()] if conversation is None else [conversation]
        for one in chosen:
            self.stop(one)
            self._reader.forget(f"page:{one}")
        self.history.delete(conversation)
        for one in chosen:
            self._tell(one, "deleted")
        self.tell_of_list()

    def _give_up(self) -> None:
        with self._turn:
            self._leaving = None
            left = [] if self._pages else list(self._running)
        for conversation in left:
            self.stop(conversation)

    def close(self) -> None:
        """The program ends: what is being answered stops, and is kept as far as it has come."""
        with self._turn:
            left = list(self._running)
        for conversation in left:
            self.stop(conversation)

    # An answer's thread

    def _run(self, running: Running, told: Sequence[Entry]) -> None:
        tally, conversation = Tally(), running.entry.conversation
        state, more = "stopped", dict[str, object]()
        try:
            for event in running.stream:
                match event:
                    case Started():
                        tally.prompt_tokens = event.prompt_tokens
                        self._begun(running, event, told)
                    case Piece():
                        tally.count(event)
                        self._grown(running, event.text)
                    case Moved():
                        self._moved(running, event)
                    case Waiting():
                        self._waits(running, event)
                    case Ended():
                        state, more = "done", ended_shape(event)
            if state == "stopped":
                more = tally.shape()
        except Exception as error:  # noqa: BLE001 every error becomes words
            state, more = "failed", {"error": error_shape(error)}
        finally:
            running.stream.close()
            self._over(running, state, more)
            running.done.set()
            if state != "failed":
                log.debug("an answer of conversation %s is %s", conversation, state)

    def _begun(self, running: Running, event: Started, told: Sequence[Entry]) -> None:
        about: Shape = {
            "model": event.model_id,
            "prompt_tokens": event.prompt_tokens,
            "reused_tokens": event.reused_tokens,
            "route": route_shape(event.route, self._records()),
            "memory_start": told[event.forgotten].id if event.forgotten else None,
        }
        with self._turn:
            running.route, running.waits = event.route, None
            running.facts |= about
            self._tell(running.entry.conversation, "started", message=running.entry.id, **running.facts)

    def _grown(self, running: Running, words: str) -> None:
        name = running.entry.id
        with self._turn:
            running.text += words
            running.pieces += 1
            running.waits = None
            self._tell(running.entry.conversation, "piece", message=name, text=words)
            # A block can end only where a line does.
            if "\n" in words:
                self._settle(running)
        self._unplug(running)
        if time.monotonic() - running.kept > KEEP_SECONDS:
            running.kept = time.monotonic()
            self._keep(running, "running")

    def _settle(self, running: Running) -> None:
        fresh = settled(running.text[running.settled :])
        if fresh:
            block = running.text[running.settled : running.settled + fresh]
            running.settled += fresh
            upto = page_length(running.text[: running.settled])
            fields = {"message": running.entry.id, "upto": upto, "html": render(block)}
            self._tell(running.entry.conversation, "block", **fields)

    def _unplug(self, running: Running) -> None:
        if self.unplugging is None or running.route is None:
            return
        peer = self.unplugging.grown(running.pieces, {stage.peer_id for stage in running.route.stages})
        if peer is not None:
            with self._turn:
                running.facts |= {"unplugged": short_name(peer)}
                fields = {"message": running.entry.id, "unplugged": short_name(peer)}
                self._tell(running.entry.conversation, "unplugged", **fields)

    def _waits(self, running: Running, event: Waiting) -> None:
        with self._turn:
            running.waits = [span_shape(span) for span in event.missing]
            self._tell(running.entry.conversation, "waiting", message=running.entry.id, missing=running.waits)

    def _records(self) -> tuple[Record, ...]:
        """What the donors tell of themselves; an answer goes on where that cannot be read."""
        try:
            return self._reader.swarm()
        except IdlebloomError:
            return ()

    def _moved(self, running: Running, event: Moved) -> None:
        records = self._records()
        with self._turn:
            running.moves.append(event.seconds)
            running.route, running.waits = event.route, None
            shape = route_shape(event.route, records)
            running.facts |= {"route": shape, "moves": list(running.moves)}
            fields = {name: running.facts[name] for name in ("route", "moves")}
            self._tell(running.entry.conversation, "moved", message=running.entry.id, **fields)

    def _over(self, running: Running, state: str, more: Shape) -> None:
        """Kept first, told then: what a page has seen to be finished is never lost."""
        running.facts |= {name: value for name, value in more.items() if name != "token_ids"}
        self._keep(running, state)
        conversation = running.entry.conversation
        with self._turn:
            if self._running.get(conversation) is running:
                del self._running[conversation]
            fields = {
                "message": running.entry.id,
                "state": state,
                "upto": page_length(running.text),
                "html": render(running.text[running.settled :]),
                **running.facts,
                **more,
            }
            self._tell(conversation, "ended", **fields)
        self.tell_of_list()

    def _keep(self, running: Running, state: str) -> None:
        try:
            self.history.keep(running.entry.id, running.text, state, running.facts)
        except DiskError as error:
            log.warning("an answer could not be kept: %s", error.message)


def whole_turns(path: Sequence[Entry]) -> list[Entry]:
    """What the model is to know: questions with their answers, and last the question that waits."""
    known: list[Entry] = []
    for question, answer in zip(path[::2], path[1::2], strict=False):
        if answer.text and answer.state != "failed":
            known += [question, answer]
    return [*known, path[-1]]


def _messages(system: str, path: Sequence[Entry]) -> tuple[Message, ...]:
    head = (Message("system", system),) if system.strip() else ()
    talk = (Message("user" if one.role == "user" else "assistant", one.text) for one in path)
    return (*head, *talk)


def _gone() -> Refusal:
    return Refusal(404, "this conversation or message is no longer there", "Open another one.")
