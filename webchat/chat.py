"""The page's WebSocket ``/api/chat``: questions go in, pieces of the answer come out.

The page sends ``ask``, ``stop`` and ``forget``; it hears ``hello`` once, ``status`` at each change, and for
each ask, named by the number that the page gave it: ``started``, any number of ``piece``, then ``ended`` or
``error``. One answer runs at a time on a connection; when the connection goes, its answer is cancelled.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from flask import Blueprint
from flask_sock import Sock
from simple_websocket import ConnectionClosed
from simple_websocket import Server as Socket

from core.errors import IdlebloomError
from core.routing.ask import Ask, Ended, Event, Message, Piece, Started
from core.terms import Finish, Sampling
from webchat.bulletin import Bulletin
from webchat.door import check_owner
from webchat.reader import Reader, Stream
from webchat.refusals import Refusal, advice_of, refusal_of, sentence
from webchat.snapshots import Shape, card_shape, route_shape, status_shape
from webchat.values import BadValue, Body, checked_text, mapping, number, text, whole

MAX_MESSAGES = 1000
LOOK_UP_SECONDS = 1.0
"""How often a connection with nothing to read looks for a new status."""
Role = Literal["system", "user", "assistant"]


def blueprint(reader: Reader, bulletin: Bulletin) -> Blueprint:
    chat = Blueprint("chat", __name__)

    # Before the view: flask-sock shakes hands before it calls that.
    chat.before_request(check_owner)

    @Sock().route("/api/chat", bp=chat)  # type: ignore[untyped-decorator]  # flask-sock has no types
    def talk(ws: Socket) -> None:
        Talk(reader, bulletin, Line(ws)).run()

    return chat


class Line:
    """The sending half of a WebSocket, shared by the threads that answer and that listen."""

    def __init__(self, ws: Socket) -> None:
        self.ws = ws
        self._turn = threading.Lock()

    def send(self, kind: str, /, **fields: object) -> None:
        with self._turn:
            self.ws.send(json.dumps({"type": kind, **fields}))

    def receive(self, timeout: float) -> Body | None:
        sent = self.ws.receive(timeout)
        if sent is None:
            return None
        try:
            return mapping(json.loads(sent), "message")
        except (ValueError, RecursionError):
            return {}


@dataclass
class Tally:
    """What is known of an answer so far, for one that is stopped before its end."""

    begun: float = field(default_factory=time.monotonic)
    first: float = 0.0
    last: float = 0.0
    prompt_tokens: int = 0
    token_ids: list[int] = field(default_factory=list)

    def count(self, piece: Piece) -> None:
        self.last = time.monotonic() - self.begun
        self.first = self.first or self.last
        self.token_ids += [token.token_id for token in piece.tokens]

    def shape(self) -> Shape:
        spread, tokens = self.last - self.first, len(self.token_ids)
        rate = (tokens - 1) / spread if tokens > 1 and spread > 0 else 0.0
        return _ended_shape(
            Finish.CANCELLED,
            self.token_ids,
            prompt_tokens=self.prompt_tokens,
            seconds=self.last,
            first=self.first,
            rate=rate,
        )


class Talk:
    """One page's connection."""

    def __init__(self, reader: Reader, bulletin: Bulletin, line: Line) -> None:
        self._reader, self._bulletin, self._line = reader, bulletin, line
        self._stream: Stream[Event] | None = None
        self._thread: threading.Thread | None = None
        self._shown = 0

    def run(self) -> None:
        try:
            self._greet()
            self._tell_status(LOOK_UP_SECONDS)
            while True:
                self._tell_status(0)
                message = self._line.receive(LOOK_UP_SECONDS)
                if message is not None:
                    self._act(message)
        except (ConnectionClosed, OSError):
            pass
        finally:
            self._stop()

    def _greet(self) -> None:
        try:
            self._line.send("hello", card=card_shape(self._reader.card()))
        except IdlebloomError as error:
            self._line.send("hello", card=None, **_error_shape(error))

    def _tell_status(self, timeout: float) -> None:
        number, status = self._bulletin.after(self._shown, timeout)
        if status is not None:
            self._line.send("status", status=status_shape(status))
            self._shown = number

    def _act(self, message: Body) -> None:
        match message.get("type"):
            case "ask":
                self._ask(message)
            case "stop":
                self._stop()
            case "forget":
                self._forget(message)
            case _:
                self._line.send("error", ask=None, title="That message could not be read.", advice="")

    def _ask(self, message: Body) -> None:
        self._stop()
        try:
            label = whole(message, "ask", 0, 2**53)
            ask = read_ask(message)
            self._stream = self._reader.generate(ask)
        except Exception as error:  # noqa: BLE001 every error becomes words
            self._line.send("error", ask=message.get("ask"), **_error_shape(error))
            return
        self._thread = threading.Thread(
            target=self._answer, args=(self._stream, label, ask.sampling.seed), name="answer", daemon=True
        )
        self._thread.start()

    def _stop(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._thread is not None:
            self._thread.join()
        self._stream = self._thread = None

    def _forget(self, message: Body) -> None:
        try:
            key = conversation_key(message)
        except BadValue:
            return
        if key is not None:
            self._reader.forget(key)

    def _answer(self, stream: Stream[Event], label: int | None, seed: int) -> None:
        tally, finished = Tally(), False
        try:
            for event in stream:
                match event:
                    case Started():
                        tally.prompt_tokens = event.prompt_tokens
                        self._line.send("started", ask=label, seed=seed, **_started_shape(event))
                    case Piece():
                        tally.count(event)
                        self._line.send("piece", ask=label, text=event.text)
                    case Ended():
                        finished = True
                        self._line.send("ended", ask=label, **_ended_event_shape(event))
            if not finished:
                self._line.send("ended", ask=label, **tally.shape())
        except (ConnectionClosed, OSError):
            pass  # the page has gone; ``run`` notices too
        except Exception as error:  # noqa: BLE001 every error becomes words
            self._complain(label, error)
        finally:
            stream.close()

    def _complain(self, label: int | None, error: Exception) -> None:
        try:
            self._line.send("error", ask=label, **_error_shape(error))
        except (ConnectionClosed, OSError):
            pass


def read_ask(message: Body) -> Ask:
    sampling = mapping(message.get("sampling") or {}, "sampling")
    seed = whole(sampling, "seed", 0, 2**31 - 1)
    return Ask(
        prompt=_messages(message),
        max_tokens=whole(message, "max_tokens", 1, 1_000_000),
        sampling=Sampling(
            temperature=number(sampling, "temperature", 0, 2, 0.0),
            top_p=number(sampling, "top_p", 0, 1, 1.0),
            repetition_penalty=number(sampling, "repetition_penalty", 0.5, 2, 1.0),
            seed=secrets.randbelow(2**31) if seed is None else seed,
        ),
        conversation=conversation_key(message),
    )


def conversation_key(message: Body) -> str | None:
    """The page makes up the id; the prefix keeps it apart from keys made elsewhere in this program."""
    if message.get("conversation") is None:
        return None
    name = text(message, "conversation")
    if not re.fullmatch(r"[A-Za-z0-9_-]{8,64}", name):
        raise BadValue("conversation", "must be 8 to 64 letters, digits, - or _")
    return f"page:{name}"


def _messages(message: Body) -> tuple[Message, ...]:
    given = message.get("messages")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_MESSAGES:
        raise BadValue("messages", f"must be a list of 1 to {MAX_MESSAGES} messages")
    return tuple(_message(one, f"messages[{index}]") for index, one in enumerate(given))


def _message(value: object, name: str) -> Message:
    one = mapping(value, name)
    role = one.get("role")
    if role not in get_args(Role):
        raise BadValue(f"{name}.role", "must be system, user or assistant")
    said = one.get("text")
    if not isinstance(said, str):
        raise BadValue(f"{name}.text", "must be text")
    return Message(role, checked_text(said, f"{name}.text"))  # type: ignore[arg-type]  # checked above


def _started_shape(event: Started) -> Shape:
    return {
        "model": event.model_id,
        "prompt_tokens": event.prompt_tokens,
        "reused_tokens": event.reused_tokens,
        "route": route_shape(event.route),
    }


def _ended_event_shape(event: Ended) -> Shape:
    return _ended_shape(
        event.finish,
        event.token_ids,
        prompt_tokens=event.prompt_tokens,
        seconds=event.seconds,
        first=event.first_token_seconds,
        rate=event.tokens_per_second,
    )


def _ended_shape(
    finish: Finish, token_ids: Sequence[int], *, prompt_tokens: int, seconds: float, first: float, rate: float
) -> Shape:
    return {
        "finish": finish.value,
        "tokens": len(token_ids),
        "token_ids": list(token_ids),
        "prompt_tokens": prompt_tokens,
        "seconds": seconds,
        "first_token_seconds": first,
        "tokens_per_second": rate,
    }


def _error_shape(error: Exception) -> Shape:
    if isinstance(error, IdlebloomError):
        return {"title": sentence(error.message), "advice": advice_of(error), "kind": type(error).__name__}
    refusal: Refusal = refusal_of(error)
    return {"title": sentence(refusal.message), "advice": refusal.advice, "kind": "error"}
