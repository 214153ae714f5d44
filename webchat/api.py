"""OpenAI's API over this node: ``/v1/models``, ``/v1/chat/completions``, ``/v1/completions``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from uuid import uuid4

from flask import Blueprint, Response, current_app, jsonify, request

from webchat.api_request import Request, read_chat, read_completion
from webchat.departures import Departures
from webchat.door import Door
from webchat.logprobs import TokenLog
from webchat.reader import Reader, Stream
from webchat.refusals import Refusal, refusal_of
from webchat.several import Numbered, side_by_side
from webchat.sheet import CHAT, COMPLETION, Choice, Kind, Sheet
from webchat.snapshots import Shape
from webchat.turnstile import Turnstile
from webchat.values import Body, mapping


def blueprint(reader: Reader, turnstile: Turnstile) -> Blueprint:
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
        check_model(reader, name)
        return jsonify(model_shape(reader))

    @api.post("/chat/completions")
    def chat() -> Response:
        return _answer(reader, turnstile, departures, read_chat, CHAT)

    @api.post("/completions")
    def complete() -> Response:
        return _answer(reader, turnstile, departures, read_completion, COMPLETION)

    return api


def model_shape(reader: Reader) -> Shape:
    return {"id": reader.card().model_id, "object": "model", "created": 0, "owned_by": "idlebloom"}


def check_model(reader: Reader, name: str) -> None:
    here = reader.card().model_id
    if name != here:
        raise Refusal(
            404, f"the model {name[:200]} is not here, {here} is", code="model_not_found", param="model"
        )


def _answer(
    reader: Reader,
    turnstile: Turnstile,
    departures: Departures,
    read: Callable[[Body], Request],
    kind: Kind,
) -> Response:
    wanted = read(mapping(request.get_json(), "body"))
    check_model(reader, wanted.model)
    with ExitStack() as entering:
        entering.enter_context(turnstile.answers(len(wanted.asks)))
        events = side_by_side([partial(reader.generate, ask) for ask in wanted.asks])
        watch = ExitStack()
        watch.enter_context(departures.closing(request.environ.get("werkzeug.socket"), events))
        watch.push(entering.pop_all())
    sheet = _sheet(reader, wanted, kind)
    if not wanted.stream:
        with watch:
            return jsonify(sheet.whole(events))
    chunks = _chunks(sheet, events, watch, wanted.with_usage)
    return Response(_begun(chunks), mimetype="text/event-stream")


def _sheet(reader: Reader, wanted: Request, kind: Kind) -> Sheet:
    choices = [
        Choice(
            index,
            kind,
            log=TokenLog(reader.spelled) if wanted.with_logprobs else None,
            echo=str(ask.prompt) if wanted.echo else "",
        )
        for index, ask in enumerate(wanted.asks)
    ]
    return Sheet(kind, kind.prefix + uuid4().hex, int(time.time()), wanted.model, choices, wanted.each)


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
    sheet: Sheet, events: Stream[Numbered], watch: AbstractContextManager[object], with_usage: bool
) -> Iterator[str]:
    started = False
    with watch:
        try:
            for number, event in events:
                for chunk in sheet.chunks(number, event, with_usage):
                    started = True
                    yield f"data: {json.dumps(chunk)}\n\n"
        except Exception as error:
            if not started:
                raise
            yield f"data: {json.dumps({'error': refusal_of(error).shape})}\n\n"
        else:
            yield "data: [DONE]\n\n"
