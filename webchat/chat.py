"""The WebSocket ``/api/chat``: questions go in, pieces of the answers come out.

All hear ``hello`` once and ``status`` at each change. A page sends ``show`` with the conversation that it
shows, and then hears of that one: ``shown`` with all of it, ``said``, ``started``, ``piece``, ``block`` (text
that has become markup), ``moved``, ``ended``, ``deleted``; and ``conversations`` whenever their list changes.
It sends ``say``, ``again``, ``set`` (the branch, the system prompt) and ``stop``; ``refused`` says why one of
these was not done. The answers are the node's, not the connection's: see ``webchat.answers``.

A command sends ``ask``: one answer that nobody keeps. It hears ``started``, ``piece``, and ``waiting``
while layers have no donor, then ``ended`` or ``error``, named by the number that it gave; when it goes, the
answer is cancelled.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Literal, get_args

from flask import Blueprint
from flask_sock import Sock
from simple_websocket import ConnectionClosed
from simple_websocket import Server as Socket

from core.errors import IdlebloomError
from core.routing.ask import Ask, Ended, Event, Message, Piece, Started, Waiting
from core.terms import Sampling
from webchat.answers import Answers, How, Question
from webchat.bulletin import Bulletin
from webchat.conversations import MAX_SYSTEM, short_text
from webchat.door import check_owner
from webchat.reader import Reader, Stream
from webchat.refusals import error_shape
from webchat.serve import hang_up
from webchat.snapshots import Shape, card_shape, route_shape, span_shape
from webchat.tally import Tally, ended_shape
from webchat.turnstile import Pace
from webchat.values import BadValue, Body, checked_text, mapping, number, text, whole

MAX_MESSAGES = 1000
MAX_QUESTION = 200_000
"""Characters; far more than any model takes."""
SENDER_SECONDS = 2.0
"""How long a page's thread waits for more to send."""
MAX_WAITING = 20_000
"""Messages that a page may leave unread."""
MESSAGE_RATE, MESSAGE_BURST = 50.0, 200.0
"""Messages of one connection, a second and at once; a person clicks far slower."""
FAREWELL_SECONDS = 1.0
Role = Literal["system", "user", "assistant"]


def blueprint(
    reader: Reader, bulletin: Bulletin, answers: Answers, offers: Mapping[str, object] | None = None
) -> Blueprint:
    """``offers``: what else the page may show, told with ``hello``."""
    chat = Blueprint("chat", __name__)

    # Before the view: flask-sock shakes hands before it calls that.
    chat.before_request(check_owner)

    @Sock().route("/api/chat", bp=chat)  # type: ignore[untyped-decorator]  # flask-sock has no types
    def talk(ws: Socket) -> None:
        Talk(reader, bulletin, answers, Line(ws), offers or {}).run()

    return chat


class Line:
    """The sending half of a WebSocket, shared by the threads that answer and that listen."""

    def __init__(self, ws: Socket) -> None:
        self.ws = ws
        self._turn = threading.Lock()

    def send(self, kind: str, /, **fields: object) -> None:
        self.send_text(json.dumps({"type": kind, **fields}))

    def send_text(self, text: str) -> None:
        with self._turn:
            self.ws.send(text)

    def receive(self) -> Body:
        """Waits for as long as the connection lasts."""
        sent = self.ws.receive()
        try:
            return mapping(json.loads(sent), "message")
        except (ValueError, RecursionError):
            return {}

    def see_off(self) -> None:
        """Reads on for a moment: what lies unread at its close takes the last words with it."""
        until = time.monotonic() + FAREWELL_SECONDS
        while (left := until - time.monotonic()) > 0 and self.ws.receive(left) is not None:
            pass

    def drop(self) -> None:
        hang_up(self.ws.sock)


class Talk:
    """One connection: of a page, or of a command."""

    def __init__(
        self,
        reader: Reader,
        bulletin: Bulletin,
        answers: Answers,
        line: Line,
        offers: Mapping[str, object],
    ) -> None:
        self._offers = offers
        self._reader, self._bulletin, self._answers, self._line = reader, bulletin, answers, line
        self._page, self._is_page = OpenPage(line), False
        self._stream: Stream[Event] | None = None
        self._thread: threading.Thread | None = None
        self._pace = Pace(MESSAGE_RATE, MESSAGE_BURST)

    def run(self) -> None:
        try:
            self._greet()
            self._bulletin.join(self._page.hear_text)
            while True:
                message = self._line.receive()
                if not self._pace.allows():
                    self._line.send("error", ask=None, title="Too many messages at once.", advice="")
                    self._line.see_off()
                    return
                self._act(message)
        except (ConnectionClosed, OSError):
            pass
        finally:
            self._bulletin.leave(self._page.hear_text)
            self._stop()
            if self._is_page:
                self._answers.leave(self._page)
            self._page.close()

    def _greet(self) -> None:
        try:
            self._line.send("hello", card=card_shape(self._reader.card()), offers=self._offers)
        except IdlebloomError as error:
            self._line.send("hello", card=None, offers=self._offers, **error_shape(error))

    def _act(self, message: Body) -> None:
        acts = {
            "show": self._show,
            "say": self._say,
            "again": self._again,
            "set": self._set,
            "stop": self._halt,
        }
        kind = message.get("type")
        if kind == "ask":
            self._ask(message)
        elif isinstance(kind, str) and kind in acts:
            try:
                acts[kind](message)
            except (ConnectionClosed, OSError):
                raise
            except Exception as error:  # noqa: BLE001 every error becomes words
                self._line.send("refused", about=kind, **error_shape(error))
        else:
            self._line.send("error", ask=None, title="That message could not be read.", advice="")

    # A command, whose answer nobody keeps

    def _ask(self, message: Body) -> None:
        self._stop()
        try:
            label = whole(message, "ask", 0, 2**53)
            ask = read_ask(message)
            self._stream = self._reader.generate(ask)
        except Exception as error:  # noqa: BLE001 every error becomes words
            self._line.send("error", ask=message.get("ask"), **error_shape(error))
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
                    case Waiting():
                        missing = [span_shape(span) for span in event.missing]
                        self._line.send("waiting", ask=label, missing=missing, why=event.why)
                    case Ended():
                        finished = True
                        self._line.send("ended", ask=label, **ended_shape(event))
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
            self._line.send("error", ask=label, **error_shape(error))
        except (ConnectionClosed, OSError):
            pass

    # A page, which shows kept conversations

    def _show(self, message: Body) -> None:
        conversation = _name(message, "conversation")
        if not self._is_page:
            self._is_page = True
            self._answers.join(self._page)
        self._answers.show(self._page, conversation)

    def _say(self, message: Body) -> None:
        if not self._is_page:
            raise BadValue("say", "must come after show")
        said = text(message, "text")
        if not said.strip():
            raise BadValue("text", "must not be empty")
        if len(said) > MAX_QUESTION:
            raise BadValue("text", f"must be at most {MAX_QUESTION} characters")
        asked = Question(
            conversation=_name(message, "conversation"),
            parent=_name(message, "parent"),
            text=said,
            system=short_text(message, "system", MAX_SYSTEM) or "",
        )
        self._answers.ask(self._page, asked, read_how(message))

    def _again(self, message: Body) -> None:
        conversation, question = _name(message, "conversation"), _name(message, "question")
        if conversation is None or question is None:
            raise BadValue("question", "must be a message of a conversation")
        self._answers.again(conversation, question, read_how(message))

    def _set(self, message: Body) -> None:
        conversation = _name(message, "conversation")
        if conversation is None:
            raise BadValue("conversation", "must be one that is kept")
        self._answers.choose(conversation, _name(message, "leaf"), short_text(message, "system", MAX_SYSTEM))

    def _halt(self, message: Body) -> None:
        conversation = _name(message, "conversation")
        if conversation is None:
            self._stop()
        else:
            self._answers.stop(conversation)


class OpenPage:
    """What a page hears, sent by a thread of its own: a slow page holds up neither answers nor others. The
    thread is there while there is something to send: most pages are idle, and each thread takes memory."""

    def __init__(self, line: Line) -> None:
        self.shows: str | None = None
        self._line = line
        self._waiting: deque[tuple[str, Mapping[str, object]] | str] = deque()
        self._turn = threading.Condition()
        self._sends = self._closed = False

    def hear(self, kind: str, fields: Mapping[str, object]) -> None:
        self._put((kind, fields))

    def hear_text(self, text: str) -> None:
        """A message that is written out already."""
        self._put(text)

    def _put(self, message: tuple[str, Mapping[str, object]] | str) -> None:
        with self._turn:
            if self._closed:
                return
            if len(self._waiting) >= MAX_WAITING:
                self._closed = True
                self._line.drop()  # it reads nothing; should it come back, it is told all anew
                return
            self._waiting.append(message)
            if self._sends:
                self._turn.notify()
            else:
                self._sends = True
                threading.Thread(target=self._send, name="page", daemon=True).start()

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._waiting.clear()
            self._turn.notify()

    def _next(self) -> tuple[str, Mapping[str, object]] | str | None:
        with self._turn:
            self._turn.wait_for(lambda: self._waiting or self._closed, SENDER_SECONDS)
            if self._waiting:
                return self._waiting.popleft()
            self._sends = False
            return None

    def _send(self) -> None:
        try:
            while (waiting := self._next()) is not None:
                if isinstance(waiting, str):
                    self._line.send_text(waiting)
                else:
                    kind, fields = waiting
                    self._line.send(kind, **fields)
        except (ConnectionClosed, OSError):
            self.close()  # the page has gone; ``Talk.run`` notices too


def read_ask(message: Body) -> Ask:
    how = read_how(message)
    return Ask(prompt=_messages(message), max_tokens=how.max_tokens, sampling=how.sampling)


def read_how(message: Body) -> How:
    sampling = mapping(message.get("sampling") or {}, "sampling")
    seed = whole(sampling, "seed", 0, 2**31 - 1)
    return How(
        Sampling(
            temperature=number(sampling, "temperature", 0, 2, 0.0),
            top_p=number(sampling, "top_p", 0, 1, 1.0),
            top_k=whole(sampling, "top_k", 0, 2**31 - 1) or 0,
            repetition_penalty=number(sampling, "repetition_penalty", 0.5, 2, 1.0),
            seed=secrets.randbelow(2**31) if seed is None else seed,
        ),
        whole(message, "max_tokens", 1, 1_000_000),
    )


def _name(message: Body, field: str) -> str | None:
    return None if message.get(field) is None else text(message, field)


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
