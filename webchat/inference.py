"""A session of the protocol that Petals' chat speaks: text goes in, the model's continuation comes out,
and both stay in the session for the next time.

The session is a list of tokens. One long answer is cut into replies of as many tokens as were asked for: the
text is the same as if each reply had been asked for alone, and no reply waits for a question.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from core.errors import IdlebloomError, UserError
from core.routing.ask import Ask, Ended, Event, Ids, Piece
from core.terms import Sampling, Token
from webchat.reader import Reader, Stream


@dataclass(frozen=True)
class Wanted:
    """One ``generate``. ``new`` or ``in_all`` is set: tokens a reply, or tokens of the session with it."""

    inputs: str = ""
    sampling: Sampling = Sampling()
    new: int | None = None
    in_all: int | None = None
    stop: str | None = None
    """Without it one reply is made; with it as many as bring the text to end with it or one of ``extra``."""
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    outputs: str
    stop: bool
    token_count: int


@dataclass
class Inference:
    """``length``: the most tokens that the session may come to."""

    reader: Reader
    length: int
    note: Callable[[Stream[Event]], None] = lambda _stream: None
    """Told of each stream as it begins, so that another thread can close it."""
    ids: list[int] = field(default_factory=list)
    key: str = field(default_factory=lambda: f"petals:{secrets.token_hex(8)}")

    def close(self) -> None:
        self.reader.forget(self.key)

    def generate(self, wanted: Wanted) -> Iterator[Reply]:
        if wanted.inputs:
            self.ids += self.reader.encode(wanted.inputs)
        group = self._group(wanted)
        if group < 1 or len(self.ids) + group > self.length:
            raise TooMuch(len(self.ids), max(group, 1), self.length)
        yield from self._one(wanted, group) if wanted.stop is None else self._many(wanted, group)

    def _group(self, wanted: Wanted) -> int:
        """New tokens a reply."""
        return wanted.new if wanted.new is not None else (wanted.in_all or 0) - len(self.ids)

    def _one(self, wanted: Wanted, group: int) -> Iterator[Reply]:
        text, before = "", len(self.ids)
        for words, tokens in self._units(wanted.sampling, group):
            text += words if tokens else ""
            self.ids += [token.token_id for token in tokens]
        yield Reply(text, True, len(self.ids) - before)

    def _many(self, wanted: Wanted, group: int) -> Iterator[Reply]:
        text = pending = ""
        count, stops = 0, (wanted.stop or "", *wanted.extra)
        while True:
            room = self.length - len(self.ids)
            if room < 1:
                if pending:
                    yield Reply(pending, False, count)
                raise TooMuch(len(self.ids), 1, self.length)
            with closing(self._units(wanted.sampling, room, with_end=True)) as units:
                for words, tokens in units:
                    end = first_end(text, words, stops)
                    if end is not None:
                        which, at = end
                        self._stop(words[:at], tokens, None if which == 0 else wanted.stop, len(words) == at)
                        yield Reply(pending + words[:at], True, count + len(tokens))
                        return
                    self.ids += [token.token_id for token in tokens]
                    text, pending, count = text + words, pending + words, count + len(tokens)
                    if count >= group and pending:
                        yield Reply(pending, False, count)
                        pending, count = "", 0

    def _stop(self, words: str, tokens: Sequence[Token], instead: str | None, whole: bool) -> None:
        """What stays in the session of the tokens that brought the end. As in Petals, an extra stop's last
        token makes way for the stop sequence; text that a token brought beyond the end is forgotten."""
        if instead is None and whole:
            self.ids += [token.token_id for token in tokens]
        elif instead is None:
            self.ids += self.reader.encode(words) if words else ()
        else:
            self.ids += [token.token_id for token in tokens[:-1]]
            self.ids += self.reader.encode(instead)

    def _units(
        self, sampling: Sampling, most: int, *, with_end: bool = False
    ) -> Generator[tuple[str, Sequence[Token]], None, None]:
        """Text with the tokens that made it, never a part of a character. ``with_end``: the token that
        ends an answer comes last, as it is written."""
        ask = Ask(Ids(tuple(self.ids)), max_tokens=most, sampling=sampling, conversation=self.key)
        stream = self.reader.generate(ask)
        self.note(stream)
        seen, ended = 0, False
        with closing(stream):
            for event in stream:
                if isinstance(event, Piece):
                    seen += len(event.tokens)
                    yield event.text, event.tokens
                elif isinstance(event, Ended):
                    ended = True
                    for token_id in event.token_ids[seen:]:
                        written = self.reader.spelled(token_id).decode(errors="replace")
                        token = Token(len(self.ids), token_id, 0.0)
                        yield (written if with_end else ""), (token,)
        if not ended:
            raise IdlebloomError("the answer was stopped")


class TooMuch(UserError):
    """Petals' clients look for its first words."""

    def __init__(self, before: int, new: int, most: int) -> None:
        super().__init__(
            f"Maximum length exceeded: prefix {before} + current {new} exceeds pre-allocated maximum {most}",
            "Ask for fewer tokens, or open a longer session.",
        )


def first_end(text: str, new: str, stops: Sequence[str]) -> tuple[int, int] | None:
    """Which stop is the first to be complete in ``text + new``, and how much of ``new`` that takes."""
    found = []
    for number, stop in enumerate(stops):
        start = max(0, len(text) - len(stop) + 1)
        at = (text[start:] + new).find(stop) if stop else -1
        if at >= 0:
            found.append((start + at + len(stop) - len(text), number))
    if not found:
        return None
    at, number = min(found)
    return number, at
