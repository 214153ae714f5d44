"""Answers in OpenAI's shapes: whole, or in chunks as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from core.routing.ask import Ended, Event, Piece, Started
from core.terms import Finish, Token
from webchat.logprobs import TokenLog
from webchat.reader import Stream
from webchat.refusals import Refusal
from webchat.several import Numbered
from webchat.snapshots import Shape


@dataclass(frozen=True)
class Kind:
    """How chat and plain completions differ in what goes out."""

    prefix: str
    whole: str
    chunk: str
    opening: Shape | None
    delta: Callable[[str], Shape]
    said: Callable[[str], Shape]
    closing: Shape
    logs: Callable[[TokenLog, Sequence[Token]], Shape]


CHAT = Kind(
    prefix="chatcmpl-",
    whole="chat.completion",
    chunk="chat.completion.chunk",
    opening={"delta": {"role": "assistant", "content": ""}},
    delta=lambda text: {"delta": {"content": text}},
    said=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    closing={"delta": {}},
    logs=TokenLog.chat,
)
COMPLETION = Kind(
    prefix="cmpl-",
    whole="text_completion",
    chunk="text_completion",
    opening=None,
    delta=lambda text: {"text": text},
    said=lambda text: {"text": text},
    closing={"text": ""},
    logs=TokenLog.plain,
)


@dataclass
class Choice:
    """One of the answers to a request. ``echo`` is the prompt where the text is to begin with it."""

    index: int
    kind: Kind
    log: TokenLog | None = None
    echo: str = ""
    begun: bool = False
    shown: list[str] = field(default_factory=list)
    reported: list[Token] = field(default_factory=list)
    started: Started | None = None
    ended: Ended | None = None

    def take(self, event: Event) -> str:
        """Note an event; the text that it brings to show."""
        text = ""
        match event:
            case Started():
                self.started, text = event, self.echo
            case Piece():
                text = self._words(event.text)
                if self.log is not None:
                    self.reported += self.log.take(event.text, event.tokens)
            case Ended():
                self.ended = event
        self.shown.append(text)
        return text

    def logs(self) -> Shape | None:
        """Of the tokens that were not reported yet."""
        if self.log is None:
            return None
        tokens, self.reported = self.reported, []
        return self.kind.logs(self.log, tokens)

    def _words(self, text: str) -> str:
        """A message does not begin with the blank that its prompt's format leaves in front of it."""
        if self.kind.opening is not None and not self.begun:
            text = text.lstrip()
        self.begun = self.begun or bool(text)
        return text


@dataclass
class Sheet:
    """All answers to one request: ``each`` to every prompt, one prompt after the other."""

    kind: Kind
    id: str
    created: int
    model: str
    choices: Sequence[Choice]
    each: int = 1

    def whole(self, events: Stream[Numbered]) -> Shape:
        for number, event in events:
            self.choices[number].take(event)
        shapes = []
        for choice in self.choices:
            if choice.ended is None:
                raise Refusal(503, "the answer was stopped", code="stopped")
            said = self.kind.said("".join(choice.shown))
            shapes.append(_choice(choice, {**said, "logprobs": choice.logs(), **_end(choice.ended.finish)}))
        return self._shape(self.kind.whole, shapes, usage=self._usage())

    def chunks(self, number: int, event: Event, with_usage: bool) -> Iterator[Shape]:
        """With ``include_usage`` every chunk names usage, and one more after the last holds it."""
        choice, blank = self.choices[number], {"usage": None} if with_usage else {}

        def chunk(content: Shape, finish: Finish | None = None) -> Shape:
            return self._shape(self.kind.chunk, [_choice(choice, {**content, **_end(finish)})], **blank)

        text = choice.take(event)
        match event:
            case Started():
                if self.kind.opening is not None:
                    yield chunk(self.kind.opening)
                elif text:
                    yield chunk(self.kind.delta(text))
            case Piece():
                if text or choice.reported:
                    yield chunk({**self.kind.delta(text), "logprobs": choice.logs()})
            case Ended():
                yield chunk(self.kind.closing, event.finish)
                if with_usage and all(one.ended is not None for one in self.choices):
                    yield self._shape(self.kind.chunk, [], usage=self._usage())

    def _shape(self, kind: str, choices: list[Shape], **more: object) -> Shape:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **more,
        }

    def _usage(self) -> Shape:
        """Each prompt counts once, however many answers it has."""
        firsts = [one.started for one in self.choices[:: self.each] if one.started is not None]
        asked = sum(one.prompt_tokens for one in firsts)
        made = sum(len(one.ended.token_ids) for one in self.choices if one.ended is not None)
        return {
            "prompt_tokens": asked,
            "completion_tokens": made,
            "total_tokens": asked + made,
            "prompt_tokens_details": {"cached_tokens": sum(one.reused_tokens for one in firsts)},
        }


def _choice(choice: Choice, content: Shape) -> Shape:
    return {"index": choice.index, "logprobs": None, **content}


def _end(finish: Finish | None) -> Shape:
    if finish is None:
        return {"finish_reason": None}
    return {"finish_reason": "length" if finish is Finish.LENGTH else "stop"}
