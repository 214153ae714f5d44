from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from websocket import (
    WebSocket,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    create_connection,
)

from core.errors import NodeError
from core.terms import Sampling, Span, SwarmView
from webchat.door import Door
from webchat.fake import ANSWER, PEERS, WHOLE, FakeReader
from webchat.serve import Server

Shape = dict[str, Any]


def dial(server: Server, door: Door, **changes: str | None) -> WebSocket:
    """As the page does it: with the cookie and our own Origin, unless changed."""
    options = {"cookie": f"idlebloom_{server.port}={door.cookie}", "origin": server.url} | changes
    url = f"ws://127.0.0.1:{server.port}/api/chat"
    origin = options.pop("origin")
    return create_connection(url, timeout=10, suppress_origin=origin is None, origin=origin, **options)


@pytest.fixture
def page(server: Server, door: Door) -> Iterator[WebSocket]:
    ws = dial(server, door)
    assert hear(ws, "hello")["card"]["model_id"] == "idlebloom-demo"
    yield ws
    ws.close()
    ws.shutdown()


def ask(ws: WebSocket, text: str, number: int = 1, **fields: object) -> None:
    messages = [{"role": "user", "text": text}]
    ws.send(json.dumps({"type": "ask", "ask": number, "messages": messages, **fields}))


def hear(ws: WebSocket, kind: str) -> Shape:
    while True:
        message: Shape = json.loads(ws.recv())
        if message["type"] == kind:
            return message
        assert message["type"] != "error", message


def hear_answer(ws: WebSocket) -> tuple[str, Shape]:
    said = ""
    while True:
        message = json.loads(ws.recv())
        if message["type"] == "piece":
            said += message["text"]
        if message["type"] in ("ended", "error"):
            return said, message


def test_a_question_is_answered_piece_by_piece(page: WebSocket) -> None:
    """Started with the route, pieces, ended with the numbers."""
    ask(page, "hello there", 5)
    started = hear(page, "started")
    assert started["ask"] == 5 and started["prompt_tokens"] == 2 and started["reused_tokens"] == 0
    assert [(stage["peer"], stage["start"], stage["end"]) for stage in started["route"]] == [
        (PEERS[0], 0, 4),
        (PEERS[1], 4, 7),
        (PEERS[2], 7, 10),
    ]
    said, ended = hear_answer(page)
    assert said == ANSWER
    assert (ended["ask"], ended["finish"], ended["tokens"]) == (5, "stop", 36)
    assert ended["tokens_per_second"] > 0
    assert ended["predicted_seconds"] == 0.02
    assert len(ended["token_ids"]) == 36 and ended["prompt_tokens"] == 2


def test_sampling_is_greedy_unless_chosen(page: WebSocket, reader: FakeReader) -> None:
    """What the page chose arrives; the seed that was drawn is told."""
    ask(page, "hi")
    assert reader.asks == [] or reader.asks[0].sampling.temperature == 0
    hear(page, "ended")
    assert reader.asks[0].sampling.temperature == 0
    ask(page, "hi", sampling={"temperature": 0.7, "top_p": 0.9, "seed": 3}, max_tokens=2)
    assert hear(page, "started")["seed"] == 3
    assert hear(page, "ended")["finish"] == "length"
    assert reader.asks[1].sampling == Sampling(temperature=0.7, top_p=0.9, seed=3)


def test_stop_cancels_even_before_the_first_word(page: WebSocket, reader: FakeReader) -> None:
    """The answer ends as cancelled, and the donors are told."""
    reader.late = 60
    ask(page, "hi")
    hear(page, "started")
    page.send('{"type": "stop"}')
    ended = hear(page, "ended")
    assert (ended["finish"], ended["tokens"]) == ("cancelled", 0)
    assert reader.cancelled.is_set()
    reader.late = 0
    ask(page, "again", 2)
    assert hear(page, "ended")["ask"] == 2


def test_a_new_question_ends_the_one_before(page: WebSocket, reader: FakeReader) -> None:
    """One answer at a time; each message says which question it belongs to."""
    reader.late = 60
    ask(page, "one", 1)
    hear(page, "started")
    reader.late = 0
    ask(page, "two", 2)
    assert (first := hear(page, "ended"))["ask"] == 1 and first["finish"] == "cancelled"
    assert hear(page, "ended")["ask"] == 2


def test_a_command_that_goes_cancels_its_answer(page: WebSocket, reader: FakeReader) -> None:
    """The donors stop when nobody listens; a page's answers are another matter."""
    reader.late = 60
    ask(page, "hi")
    hear(page, "started")
    page.shutdown()
    assert reader.cancelled.wait(5)


@pytest.mark.parametrize(
    ("text", "title", "kind"),
    [
        ("/nodonor", "Layers 4 to 6 have no donor.", "NoDonor"),
        ("/toolong", "The prompt has 3100 tokens and this model holds 2048 in all.", "TooLong"),
        ("/lost", "The donor eBFernK2 was lost: it did not answer for 2 s.", "StageLost"),
        (" ", "The prompt is empty.", "PromptError"),
    ],
)
def test_errors_are_words_with_advice(page: WebSocket, text: str, title: str, kind: str) -> None:
    """A title that says what is wrong and advice that says what to do; then the next question works."""
    ask(page, text)
    _, error = hear_answer(page)
    assert (error["ask"], error["title"], error["kind"]) == (1, title, kind)
    assert error["advice"]
    ask(page, "hello", 2)
    assert hear(page, "ended")["ask"] == 2


BAD_FIELDS: list[Shape] = [
    {"messages": []},
    {"messages": "hi"},
    {"messages": [{"role": "robot", "text": "hi"}]},
    {"messages": [{"role": "user", "text": 5}]},
    {"messages": [{"role": "user", "text": "a"}] * 1001},
    {"sampling": 5},
    {"sampling": {"temperature": -1}},
    {"max_tokens": 0},
]


@pytest.mark.parametrize("fields", BAD_FIELDS)
def test_wrong_fields_are_refused_in_words(page: WebSocket, reader: FakeReader, fields: Shape) -> None:
    """Nothing is asked of the node, and the connection stays."""
    ask(page, "hi", **fields)
    _, error = hear_answer(page)
    assert error["type"] == "error" and ": must be" in error["title"].lower()
    assert not reader.asks


@pytest.mark.parametrize("sent", ["", "{", "[]", "null", '{"type": "unheard of"}', "[" * 100_000])
def test_messages_that_make_no_sense_are_answered(page: WebSocket, sent: str) -> None:
    """The connection stays, and says so."""
    page.send(sent)
    _, error = hear_answer(page)
    assert error["title"] == "That message could not be read."


def test_an_oversized_message_ends_the_connection(page: WebSocket, reader: FakeReader) -> None:
    """Beyond 2 MiB nothing is kept."""
    with contextlib.suppress(OSError):
        ask(page, "x" * (2 * 2**20 + 1))
    with contextlib.suppress(OSError, WebSocketConnectionClosedException):
        while page.recv():
            pass
    page.shutdown()
    assert not reader.asks


def test_status_comes_at_each_change(page: WebSocket, reader: FakeReader) -> None:
    """The page hears that the model is whole, and when it is not any more."""
    assert hear(page, "status")["status"]["swarm"]["whole"]
    reader.set_status(replace(WHOLE, swarm=SwarmView("idlebloom-demo", False, (Span(4, 7),), 2)))
    assert hear(page, "status")["status"]["swarm"]["missing"] == [{"start": 4, "end": 7}]


def test_a_node_without_a_model_says_so(
    server: Server, door: Door, reader: FakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page gets words in place of a card."""

    def no_card() -> None:
        raise NodeError("no model is chosen", "Choose one in the settings.")

    monkeypatch.setattr(reader, "card", no_card)
    ws = dial(server, door)
    greeting = hear(ws, "hello")
    assert (greeting["card"], greeting["title"]) == (None, "No model is chosen.")
    ws.close()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": None}, 403),
        ({"cookie": None}, 401),
        ({"cookie": "idlebloom=guess"}, 401),
        ({"host": "evil.example"}, 421),
    ],
)
def test_sockets_from_elsewhere_get_no_handshake(
    server: Server, door: Door, changes: dict[str, str | None], status: int
) -> None:
    """A cross-site page, one without the cookie, a rebound name: refused before the socket opens."""
    with pytest.raises(WebSocketBadStatusException) as caught:
        dial(server, door, **changes)
    assert caught.value.status_code == status


def test_a_connection_that_floods_is_ended(page: WebSocket) -> None:
    """It is told why."""
    heard: list[Shape] = []

    def listen() -> None:
        with contextlib.suppress(WebSocketConnectionClosedException, OSError):
            while text := page.recv():
                heard.append(json.loads(text))

    # Beside the sending: what is sent to a connection that has ended takes unread words with it.
    listener = threading.Thread(target=listen)
    listener.start()
    for _ in range(400):
        try:
            page.send(json.dumps({"type": "stop"}))
        except OSError:
            break
    listener.join(20)
    assert not listener.is_alive()
    # A status that was on its way may come behind it.
    assert [one["title"] for one in heard if one["type"] == "error"] == ["Too many messages at once."]
