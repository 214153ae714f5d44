"""A client as those that were written for Petals' chat, over a make-believe node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from websocket import WebSocket, WebSocketBadStatusException, create_connection

from core.errors import IdlebloomError, NoDonor, Refused, StageLost, TooLong
from core.routing.ask import Ids
from core.terms import PeerId, Sampling, Span
from webchat import petals
from webchat.door import Door
from webchat.fake import ANSWER, FakeReader
from webchat.inference import first_end
from webchat.serve import Server

MODEL = "idlebloom-demo"
ONE = {"type": "generate", "max_new_tokens": 1}


def dial(server: Server, **options: Any) -> WebSocket:
    """As a program does, which sends no Origin."""
    origin = options.pop("origin", None)
    url = f"ws://127.0.0.1:{server.port}/api/v2/generate"
    return create_connection(url, timeout=10, suppress_origin=origin is None, origin=origin, **options)


@pytest.fixture
def line(server: Server) -> Iterator[WebSocket]:
    ws = dial(server)
    yield ws
    ws.close()
    ws.shutdown()


def say(ws: WebSocket, **fields: object) -> dict[str, Any]:
    ws.send(json.dumps(fields))
    return hear(ws)


def hear(ws: WebSocket) -> dict[str, Any]:
    heard: dict[str, Any] = json.loads(ws.recv())
    return heard


def opened(ws: WebSocket, length: int = 512) -> None:
    assert say(ws, type="open_inference_session", model=MODEL, max_length=length) == {"ok": True}


def until_stop(ws: WebSocket, **fields: object) -> list[dict[str, Any]]:
    replies = [say(ws, **fields)]
    while replies[-1]["ok"] and not replies[-1]["stop"]:
        replies.append(hear(ws))
    return replies


# POST /api/v1/generate


@pytest.mark.parametrize("where", ["form", "query"])
def test_a_form_or_a_query_is_answered(client: FlaskClient, reader: FakeReader, where: str) -> None:
    """The new text alone, and every parameter as it was meant."""
    values = {"model": MODEL, "inputs": "A cat sat", "max_new_tokens": "3", "do_sample": "1"}
    values |= {"temperature": "0.7", "top_k": "40", "top_p": "0.9", "repetition_penalty": "1.2", "seed": "7"}
    sent = {"data": values} if where == "form" else {"query_string": values}
    answer = client.post("/api/v1/generate", **sent)  # type: ignore[arg-type]
    assert answer.status_code == 200
    assert answer.get_json() == {"ok": True, "outputs": "A flower is"}
    (ask,) = reader.asks
    assert ask.prompt == Ids(reader.encode("A cat sat")) and ask.max_tokens == 3
    assert ask.sampling == Sampling(temperature=0.7, top_k=40, top_p=0.9, repetition_penalty=1.2, seed=7)
    assert reader.forgotten == [ask.conversation]


def test_json_is_answered_too(client: FlaskClient, reader: FakeReader) -> None:
    """The same fields; what is none of them is told."""
    values = {"model": MODEL, "inputs": "A cat sat", "max_new_tokens": 3, "do_sample": 1, "seed": 7}
    assert client.post("/api/v1/generate", json=values).get_json() == {"ok": True, "outputs": "A flower is"}
    assert reader.asks[0].sampling == Sampling(temperature=1.0, seed=7)
    told = client.post("/api/v1/generate", json=["a"]).get_json()
    assert told == {"ok": False, "traceback": "body: must be an object."}


def test_without_sampling_the_likeliest_word_is_taken(client: FlaskClient, reader: FakeReader) -> None:
    """Temperature and its like count with ``do_sample`` alone."""
    client.post("/api/v1/generate", data={"model": MODEL, "inputs": "a", "max_length": 9, "temperature": 2})
    assert reader.asks[0].sampling == Sampling()
    assert reader.asks[0].max_tokens == 8


TROUBLE: list[tuple[dict[str, object], str]] = [
    ({"model": "bigscience/bloom"}, "the model bigscience/bloom is not here"),
    ({"max_new_tokens": ""}, "max_length: or max_new_tokens must be given"),
    ({"max_length": "7"}, "not both"),
    ({"max_new_tokens": "many"}, "max_new_tokens: must be a whole number"),
    ({"do_sample": "perhaps"}, "do_sample: must be 0 or 1"),
    ({"do_sample": "1", "temperature": "nan"}, "temperature: must be"),
    ({"do_sample": "1", "seed": "-1"}, "seed: must be"),
    ({"inputs": ""}, "prompt is empty"),
    ({"max_new_tokens": "4000"}, "Maximum length exceeded"),
    ({"inputs": "/toolong"}, "Maximum length exceeded"),
    ({"inputs": "/nodonor"}, "have no donor"),
    ({"inputs": "/lost"}, "Session"),
]


@pytest.mark.parametrize(("change", "words"), TROUBLE)
def test_trouble_is_one_clear_line(client: FlaskClient, change: dict[str, object], words: str) -> None:
    """With status 200, and never a stack."""
    values = {"model": MODEL, "inputs": "a", "max_new_tokens": "3", **change}
    answer = client.post("/api/v1/generate", data={name: one for name, one in values.items() if one != ""})
    if change == {"inputs": ""}:
        answer = client.post("/api/v1/generate", data={"model": MODEL, "max_new_tokens": "3"})
    assert answer.status_code == 200
    told = answer.get_json()
    assert told["ok"] is False and words.lower() in told["traceback"].lower()
    assert "\n" not in told["traceback"] and "Traceback" not in told["traceback"]


# /api/v2/generate


def test_a_session_keeps_what_was_said(line: WebSocket, reader: FakeReader) -> None:
    """Without ``stop_sequence`` one reply; the next goes on where that ended, inputs or none."""
    opened(line)
    first = say(line, type="generate", inputs="Tell me:", max_new_tokens=2)
    assert first == {"ok": True, "outputs": "A flower", "stop": True, "token_count": 2}
    assert say(line, type="generate", max_new_tokens=3)["outputs"] == " is the part"
    say(line, type="generate", inputs=" Stop. Again:", max_new_tokens=1)
    told = [b"".join(map(reader.spelled, ask.prompt.ids)).decode() for ask in reader.asks]  # type: ignore[union-attr]
    assert told == ["Tell me:", "Tell me:A flower", "Tell me:A flower is the part Stop. Again:"]
    assert len({ask.conversation for ask in reader.asks}) == 1


def test_a_stop_sequence_streams_one_token_at_a_time(line: WebSocket) -> None:
    """The same parameters again, until the text ends with it."""
    opened(line)
    replies = until_stop(line, **ONE, inputs="Tell me:", stop_sequence="seeds.")
    assert len(replies) == 11
    assert "".join(one["outputs"] for one in replies) == ANSWER[: ANSWER.index("seeds.") + 6]
    assert {one["token_count"] for one in replies} == {1}
    assert [one["stop"] for one in replies] == [False] * 10 + [True]
    assert say(line, **ONE)["outputs"] == " Many"


def test_an_extra_stop_of_any_length_ends_it_too(line: WebSocket, reader: FakeReader) -> None:
    """Over several tokens or inside one; its last token makes way for the stop sequence."""
    opened(line)
    replies = until_stop(
        line, **ONE, inputs="Tell me:", stop_sequence="###", extra_stop_sequences=["part of a pl", "never"]
    )
    assert "".join(one["outputs"] for one in replies) == "A flower is the part of a pl"
    assert replies[-1]["stop"] is True
    say(line, **ONE, inputs=" x")
    ids = reader.asks[-1].prompt.ids  # type: ignore[union-attr]
    assert b"".join(map(reader.spelled, ids)).decode() == "Tell me:A flower is the part of a### x"


def test_replies_of_several_tokens_end_at_the_stop(line: WebSocket) -> None:
    """Three tokens a reply, fewer in the last."""
    opened(line)
    replies = until_stop(line, type="generate", inputs="Go:", max_new_tokens=3, stop_sequence=" part of")
    assert [(one["outputs"], one["token_count"]) for one in replies] == [
        ("A flower is", 3),
        (" the part of", 3),
    ]


def test_the_end_token_can_be_the_stop(line: WebSocket, reader: FakeReader) -> None:
    """It is written out, as Petals does."""
    reader.ends = True
    opened(line)
    replies = until_stop(line, **ONE, inputs="Go:", stop_sequence="</s>")
    assert "".join(one["outputs"] for one in replies) == f"{ANSWER}</s>"


def test_a_session_that_is_full_says_so(line: WebSocket) -> None:
    """After the replies that fitted, in the words that clients look for."""
    opened(line, 5)
    replies = until_stop(line, **ONE, inputs="Tell me:", stop_sequence="never")
    assert [one["ok"] for one in replies] == [True] * 3 + [False]
    assert replies[-1]["traceback"].startswith("Maximum length exceeded: prefix 5 + current 1")


def test_a_client_that_goes_cancels(server: Server, reader: FakeReader) -> None:
    """Noticed although no token has come yet; the caches are freed."""
    reader.late = 60
    ws = dial(server)
    opened(ws)
    ws.send(json.dumps({**ONE, "inputs": "a", "stop_sequence": "b"}))
    while not reader.asks:
        pass
    ws.shutdown()
    assert reader.cancelled.wait(3)


BROKEN = [
    "no json",
    "[]",
    json.dumps({"type": "generate"}),
    json.dumps({"type": "open_inference_session", "model": "other", "max_length": 5}),
    json.dumps({"type": "open_inference_session", "model": MODEL}),
    json.dumps({"type": "open_inference_session", "model": MODEL, "max_length": True}),
    "[" * 100_000,
]


@pytest.mark.parametrize("message", BROKEN)
def test_a_bad_opening_is_told(line: WebSocket, message: str) -> None:
    """One line, and the session is over."""
    line.send(message)
    told = hear(line)
    assert told["ok"] is False and told["traceback"] and "\n" not in told["traceback"]


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": 7},
        {"inputs": "a", "stop_sequence": ""},
        {"inputs": "a", "extra_stop_sequences": ["b"]},
        {"inputs": "a", "stop_sequence": "b", "extra_stop_sequences": "c"},
        {"inputs": "a", "stop_sequence": "b", "extra_stop_sequences": ["c"] * 17},
        {"inputs": "a", "max_length": 5},
        {"inputs": "\ud800"},
    ],
)
def test_a_bad_request_is_told(line: WebSocket, reader: FakeReader, fields: dict[str, object]) -> None:
    """Before anything is asked of the node."""
    opened(line)
    assert say(line, **{**ONE, **fields})["ok"] is False
    assert not reader.asks


def test_foreign_pages_and_missing_keys_are_refused(server: Server, door: Door) -> None:
    """The same rules as for the other APIs."""
    for origin in ("http://evil.example", "null"):
        with pytest.raises(WebSocketBadStatusException, match="403"):
            dial(server, origin=origin)
    dial(server, origin=server.url).shutdown()


def test_a_foreign_form_is_refused(client: FlaskClient, reader: FakeReader) -> None:
    """A form on another page needs no script to be sent."""
    values = {"model": MODEL, "inputs": "a", "max_new_tokens": 3}
    answer = client.post("/api/v1/generate", data=values, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403 and not reader.asks


# Pure


@pytest.mark.parametrize(
    ("text", "new", "stops", "end"),
    [
        ("", "ab", ["b"], (0, 2)),
        ("ab", "cd", ["bc"], (0, 1)),
        ("ab", "cd", ["ab"], None),
        ("ab", "cab", ["ab"], (0, 3)),
        ("ab", "cd", ["d", "c"], (1, 1)),
        ("", "", ["a"], None),
    ],
)
def test_the_first_stop_to_be_complete_counts(
    text: str, new: str, stops: list[str], end: tuple[int, int] | None
) -> None:
    """One that ended before is not found again; one that spans both is."""
    assert first_end(text, new, stops) == end


PEER = PeerId("12D3KooWExample")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused(PEER, "full", "its cache is full"), "attention cache is full"),
        (StageLost(PEER, "it ended"), "Session "),
        (StageLost(PEER, "it ended"), " expired"),
        (TooLong(9, 8), "Maximum length exceeded"),
        (NoDonor([Span(1, 3)]), "Layers 1 to 2 have no donor."),
        (IdlebloomError("odd", "Do it."), "Odd. Do it."),
    ],
)
def test_errors_keep_the_phrases_that_clients_look_for(error: Exception, words: str) -> None:
    """And our own words follow."""
    assert words in petals.in_words(error)
