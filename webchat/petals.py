"""The two doors that clients of Petals' chat know: ``POST /api/v1/generate`` and the WebSocket
``/api/v2/generate``. Whatever goes wrong is told in ``traceback``, as one clear line."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from contextlib import closing
from typing import Self

from flask import Blueprint, Response, current_app, jsonify, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed
from simple_websocket import Server as Socket

from core.errors import IdlebloomError, Refused, StageLost, Stopped, TooLong
from core.routing.ask import Event
from core.terms import Sampling
from core.words import sentence
from webchat.api import check_model
from webchat.departures import Departures
from webchat.door import Door
from webchat.inference import Inference, Reply, Wanted
from webchat.reader import Reader, Stream
from webchat.refusals import advice_of, refusal_of
from webchat.turnstile import Turnstile
from webchat.values import BadValue, Body, checked_text, flag, mapping, number, text, whole

IDLE_SECONDS = 600.0
LOOK_SECONDS = 0.2
MAX_EXTRA = 16
MAX_STOP = 1000
"""Characters."""
MAX_TOKENS = 1_000_000
FORM_KINDS: dict[str, type] = {
    "do_sample": bool,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "repetition_penalty": float,
    "max_length": int,
    "max_new_tokens": int,
    "seed": int,
}
TRUTH = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def blueprint(reader: Reader, turnstile: Turnstile) -> Blueprint:
    petals = Blueprint("petals", __name__)
    departures = Departures()

    @petals.before_request
    def check() -> None:
        door: Door = current_app.extensions["door"]
        door.check_api()

    @petals.post("/api/v1/generate")
    def generate() -> Response:
        try:
            body = mapping(request.get_json(), "body") if request.is_json else read_form(request.values)
            check_model(reader, text(body, "model"))
            wanted = read_wanted(body)
            with turnstile.answers():
                outputs = _once(reader, departures, wanted)
        except Exception as error:  # noqa: BLE001 every error becomes words, with status 200: so is the protocol
            return jsonify(ok=False, traceback=in_words(error))
        return jsonify(ok=True, outputs=outputs)

    @Sock().route("/api/v2/generate", bp=petals)  # type: ignore[untyped-decorator]  # flask-sock has no types
    def talk(ws: Socket) -> None:
        _talk(reader, turnstile, ws)

    return petals


def _once(reader: Reader, departures: Departures, wanted: Wanted) -> str:
    """An answer without a session, which ends when its client goes."""
    streams: list[Stream[Event]] = []

    class Running:
        def close(self) -> None:
            for stream in streams:
                stream.close()

    session = Inference(reader, reader.card().max_length, streams.append)
    with closing(session), departures.closing(request.environ.get("werkzeug.socket"), Running()):
        return "".join(reply.outputs for reply in session.generate(wanted))


def _talk(reader: Reader, turnstile: Turnstile, ws: Socket) -> None:
    try:
        opening = _receive(ws)
        if opening.get("type") != "open_inference_session":
            raise BadValue("type", "must be open_inference_session in the first message")
        if opening.get("model") is not None:
            check_model(reader, text(opening, "model"))
        length = whole(opening, "max_length", 1, MAX_TOKENS)
        if length is None:
            raise BadValue("max_length", "must be a whole number")
        with Watched(ws) as watched:
            session = Inference(reader, min(length, reader.card().max_length), watched.note)
            with closing(session):
                _send(ws, ok=True)
                while True:
                    message = _receive(ws)
                    if message.get("type") != "generate":
                        raise BadValue("type", "must be generate")
                    wanted = read_wanted(message)
                    with turnstile.answers():
                        for reply in session.generate(wanted):
                            _send(ws, **_shape(reply))
    except (ConnectionClosed, OSError):
        pass  # the client has gone
    except Exception as error:  # noqa: BLE001 every error becomes words; the client opens another session
        try:
            _send(ws, ok=False, traceback=in_words(error))
        except (ConnectionClosed, OSError):
            pass


def _receive(ws: Socket) -> Body:
    sent = ws.receive(IDLE_SECONDS)
    if sent is None:
        minutes = f"{IDLE_SECONDS / 60:.0f}"
        raise IdlebloomError(f"Session {secrets.token_hex(4)} expired: nothing came for {minutes} minutes")
    try:
        return mapping(json.loads(sent), "message")
    except (ValueError, RecursionError):
        raise BadValue("message", "must be a JSON object") from None


def _send(ws: Socket, **fields: object) -> None:
    ws.send(json.dumps(fields))


def _shape(reply: Reply) -> dict[str, object]:
    return {"ok": True, "outputs": reply.outputs, "stop": reply.stop, "token_count": reply.token_count}


class Watched:
    """Closes the running answer when its client goes: a thread that waits for a token would not notice."""

    def __init__(self, ws: Socket) -> None:
        self._ws, self._over = ws, threading.Event()
        self._stream: Stream[Event] | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._look, name="departures", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def note(self, stream: Stream[Event]) -> None:
        self._stream = stream

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if not self._ws.connected:
                self._over.set()
        if self._stream is not None:
            self._stream.close()


# Reading


def read_form(values: Mapping[str, str]) -> Body:
    """A form's values, which are all text, as the types they stand for."""
    body: dict[str, object] = {name: values[name] for name in ("model", "inputs") if name in values}
    for name, kind in FORM_KINDS.items():
        given = values.get(name, "").strip()
        if given:
            body[name] = _typed(name, given, kind)
    return body


def _typed(name: str, given: str, kind: type) -> object:
    try:
        return TRUTH[given.lower()] if kind is bool else kind(given)
    except (ValueError, KeyError):
        words = {bool: "0 or 1", int: "a whole number", float: "a number"}[kind]
        raise BadValue(name, f"must be {words}") from None


def read_wanted(body: Body) -> Wanted:
    new, in_all = whole(body, "max_new_tokens", 1, MAX_TOKENS), whole(body, "max_length", 1, MAX_TOKENS)
    if (new is None) == (in_all is None):
        raise BadValue("max_length", "or max_new_tokens must be given, and not both")
    inputs = "" if body.get("inputs") is None else text(body, "inputs")
    stop = None if body.get("stop_sequence") is None else _stop(body["stop_sequence"], "stop_sequence")
    return Wanted(inputs, _sampling(body), new, in_all, stop, _extra(body, stop))


def _sampling(body: Body) -> Sampling:
    sampled = bool(body.get("do_sample")) if body.get("do_sample") in (0, 1) else flag(body, "do_sample")
    top_k = whole(body, "top_k", 0, 2**31 - 1)
    return Sampling(
        temperature=number(body, "temperature", 0, 100, 1.0) if sampled else 0.0,
        top_k=(top_k or 0) if sampled else 0,
        top_p=number(body, "top_p", 1e-6, 1, 1.0) if sampled else 1.0,
        repetition_penalty=number(body, "repetition_penalty", 0.01, 100, 1.0),
        seed=_seed(body) if sampled else 0,
    )


def _seed(body: Body) -> int:
    """Petals had none; with one, the same text comes again."""
    given = whole(body, "seed", 0, 2**31 - 1)
    return secrets.randbelow(2**31) if given is None else given


def _extra(body: Body, stop: str | None) -> tuple[str, ...]:
    given = body.get("extra_stop_sequences")
    if given is None:
        return ()
    if stop is None:
        raise BadValue("extra_stop_sequences", "need a stop_sequence")
    if not isinstance(given, list) or len(given) > MAX_EXTRA:
        raise BadValue("extra_stop_sequences", f"must be a list of at most {MAX_EXTRA} texts")
    return tuple(_stop(one, "extra_stop_sequences") for one in given)


def _stop(given: object, name: str) -> str:
    if not isinstance(given, str) or not 1 <= len(given) <= MAX_STOP:
        raise BadValue(name, f"must be text of 1 to {MAX_STOP} characters")
    return checked_text(given, name)


def in_words(error: Exception) -> str:
    """One line. The phrases that Petals' clients look for lead the errors that they are about."""
    if not isinstance(error, IdlebloomError):
        refusal = refusal_of(error)
        return f"{refusal.title} {refusal.advice}".strip()
    words = f"{sentence(error.message)} {advice_of(error)}".strip()
    if isinstance(error, TooLong):
        return f"Maximum length exceeded: {words}"
    if isinstance(error, Refused) and error.kind == "full":
        return f"The attention cache is full: {words}"
    if isinstance(error, StageLost | Stopped):
        return f"Session {secrets.token_hex(4)} expired: {words}"
    return words
