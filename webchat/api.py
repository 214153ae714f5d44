"""OpenAI's API over this node: ``/v1/models``, ``/v1/chat/completions``, ``/v1/completions``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import uuid4

from flask import Blueprint, Response, current_app, jsonify, request

from core.routing.ask import Ended, Event, Piece, Started
from core.terms import Finish
from webchat.api_request import Request, read_chat, read_completion
from webchat.departures import Departures
from webchat.door import Door
from webchat.reader import Reader, Stream
from webchat.refusals import Refusal, refusal_of
from webchat.snapshots import Shape
from webchat.values import Body, mapping


def blueprint(reader: Reader) -> Blueprint:
    api = Blueprint("api", __name__, url_prefix="/v1")
    departures = Departures()

    @api.before_request
    def check() -> None:
        door: Door = current_app.extensions["door"]
        door.check_api()

    @api.get("/models")
    def models() -> Response:
        return jsonify(object="list", data=[model_shape(reader)])

    @api.get("/models/<path:name>")
    def model(name: str) -> Response:
        _check_model(reader, name)
        return jsonify(model_shape(reader))

    @api.post("/chat/completions")
    def chat() -> Response:
        return _answer(reader, departures, read_chat, CHAT)

    @api.post("/completions")
    def complete() -> Response:
        return _answer(reader, departures, read_completion, COMPLETION)

    return api


def model_shape(reader: Reader) -> Shape:
    return {"id": reader.card().model_id, "object": "model", "created": 0, "owned_by": "idlebloom"}


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


CHAT = Kind(
    prefix="chatcmpl-",
    whole="chat.completion",
    chunk="chat.completion.chunk",
    opening={"delta": {"role": "assistant", "content": ""}},
    delta=lambda text: {"delta": {"content": text}},
    said=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    closing={"delta": {}},
)
COMPLETION = Kind(
    prefix="cmpl-",
    whole="text_completion",
    chunk="text_completion",
    opening=None,
    delta=lambda text: {"text": text},
    said=lambda text: {"text": text},
    closing={"text": ""},
)


def _answer(reader: Reader, departures: Departures, read: Callable[[Body], Request], kind: Kind) -> Response:
    wanted = read(mapping(request.get_json(), "body"))
    _check_model(reader, wanted.model)
    stream = reader.generate(wanted.ask)
    watch = departures.closing(request.environ.get("werkzeug.socket"), stream)
    sheet = Sheet(kind, kind.prefix + uuid4().hex, int(time.time()), wanted.model)
    if not wanted.stream:
        with watch:
            return jsonify(sheet.whole(stream))
    return Response(_begun(_chunks(sheet, stream, watch, wanted.with_usage)), mimetype="text/event-stream")


def _check_model(reader: Reader, name: str) -> None:
    here = reader.card().model_id
    if name != here:
        raise Refusal(
            404, f"the model {name[:200]} is not here, {here} is", code="model_not_found", param="model"
        )


def _begun(chunks: Iterator[str]) -> Iterator[str]:
    """Wait for the first chunk: an answer that fails before it gets a status of its own."""
    first = next(chunks)

    def all_of_it() -> Iterator[str]:
        try:
            yield first
            yield from chunks
        finally:
            chunks.close()  # type: ignore[attr-defined]  # it is a generator

    return all_of_it()


def _chunks(
    sheet: Sheet, stream: Stream[Event], watch: AbstractContextManager[None], with_usage: bool
) -> Iterator[str]:
    started = False
    with watch:
        try:
            for event in stream:
                started = True
                for chunk in sheet.chunks(event, with_usage):
                    yield f"data: {json.dumps(chunk)}\n\n"
        except Exception as error:
            if not started:
                raise
            yield f"data: {json.dumps({'error': refusal_of(error).shape})}\n\n"
        else:
            yield "data: [DONE]\n\n"


@dataclass
class Sheet:
    """One answer in OpenAI's shapes."""

    kind: Kind
    id: str
    created: int
    model: str
    cached: int = 0
    begun: bool = False

    def whole(self, stream: Stream[Event]) -> Shape:
        for event in stream:
            self._note(event)
            if isinstance(event, Ended):
                choice = {**self.kind.said(self._words(event.text)), **_end(event.finish)}
                return self._shape(self.kind.whole, [choice], usage=self._usage(event))
        raise Refusal(503, "the answer was stopped", code="stopped")

    def chunks(self, event: Event, with_usage: bool) -> Iterator[Shape]:
        """With ``include_usage`` every chunk names usage, and one more after the last holds it."""
        blank: Shape = {"usage": None} if with_usage else {}
        match event:
            case Started():
                self._note(event)
                if self.kind.opening is not None:
                    yield self._shape(self.kind.chunk, [{**self.kind.opening, **_end(None)}], **blank)
            case Piece():
                delta = self.kind.delta(self._words(event.text))
                yield self._shape(self.kind.chunk, [{**delta, **_end(None)}], **blank)
            case Ended():
                yield self._shape(self.kind.chunk, [{**self.kind.closing, **_end(event.finish)}], **blank)
                if with_usage:
                    yield self._shape(self.kind.chunk, [], usage=self._usage(event))

    def _words(self, text: str) -> str:
        """A message does not begin with the blank that its prompt's format leaves in front of it."""
        if self.kind is CHAT and not self.begun:
            text = text.lstrip()
        self.begun = self.begun or bool(text)
        return text

    def _note(self, event: Event) -> None:
        if isinstance(event, Started):
            self.cached = event.reused_tokens

    def _shape(self, kind: str, choices: list[Shape], **more: object) -> Shape:
        named = [{"index": 0, "logprobs": None, **choice} for choice in choices]
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": named,
            **more,
        }

    def _usage(self, event: Ended) -> Shape:
        made = len(event.token_ids)
        return {
            "prompt_tokens": event.prompt_tokens,
            "completion_tokens": made,
            "total_tokens": event.prompt_tokens + made,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


def _end(finish: Finish | None) -> Shape:
    if finish is None:
        return {"finish_reason": None}
    return {"finish_reason": "length" if finish is Finish.LENGTH else "stop"}
