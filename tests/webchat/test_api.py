from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from flask import Flask
from flask.testing import FlaskClient

from core.routing.ask import Ids, Message
from core.terms import Sampling
from webchat.fake import ANSWER, FakeReader
from webchat.serve import Server

MODEL = "idlebloom-demo"
HELLO: list[Any] = [{"role": "user", "content": "hello there"}]


def test_models_lists_the_one_model(ai: openai.OpenAI) -> None:
    """The model that the node is set to is listed and can be retrieved."""
    assert [model.id for model in ai.models.list()] == [MODEL]
    assert ai.models.retrieve(MODEL).id == MODEL


def test_chat_answers_whole(ai: openai.OpenAI) -> None:
    """Without streaming: text, finish reason and usage."""
    answer = ai.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    tokens = (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)
    assert tokens == (2, 36, 38)


def test_chat_streams(ai: openai.OpenAI) -> None:
    """Piece by piece: the role first, the finish reason last, and no usage unless asked for."""
    chunks = list(ai.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_last_when_asked_for(ai: openai.OpenAI) -> None:
    """``stream_options.include_usage`` adds one chunk without choices."""
    chunks = list(
        ai.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=3, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 3
    assert chunks[-2].choices[0].finish_reason == "length"


def test_completions_answer_and_stream(ai: openai.OpenAI) -> None:
    """Plain completions, 16 tokens unless more are asked for."""
    answer = ai.completions.create(model=MODEL, prompt="hello")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 16
    chunks = list(ai.completions.create(model=MODEL, prompt=["hello"], max_tokens=500, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == ANSWER


def test_stop_ends_the_answer_before_it(ai: openai.OpenAI) -> None:
    """Text from the stop string on is not sent."""
    answer = ai.chat.completions.create(model=MODEL, messages=HELLO, stop=[" seeds", "nothing"])
    assert answer.choices[0].message.content == "A flower is the part of a plant that makes"
    assert answer.choices[0].finish_reason == "stop"


def test_every_option_reaches_the_node(ai: openai.OpenAI, reader: FakeReader) -> None:
    """Sampling, length and messages arrive as sent; a developer speaks as the system."""
    ai.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
        ],
        temperature=0.5,
        top_p=0.25,
        seed=7,
        presence_penalty=1,
        frequency_penalty=-1,
        max_completion_tokens=4,
        user="ignored",
        extra_body={"unheard_of": True},
    )
    ask = reader.asks[0]
    assert ask.prompt == (Message("system", "be kind"), Message("user", "one two"))
    assert ask.max_tokens == 4
    assert ask.conversation is None
    wanted = Sampling(temperature=0.5, top_p=0.25, seed=7, presence_penalty=1, frequency_penalty=-1)
    assert ask.sampling == wanted


def test_defaults_are_openais(ai: openai.OpenAI, reader: FakeReader) -> None:
    """Temperature 1, and another seed each time."""
    for _ in range(2):
        ai.chat.completions.create(model=MODEL, messages=HELLO)
    first, second = (ask.sampling for ask in reader.asks)
    assert first.temperature == 1 and first.top_p == 1
    assert first.seed != second.seed
    assert reader.asks[0].max_tokens is None


def test_several_answers_have_seeds_of_their_own(ai: openai.OpenAI, reader: FakeReader) -> None:
    """``n`` answers side by side, the first with the seed given; the prompt counts once."""
    answer = ai.chat.completions.create(model=MODEL, messages=HELLO, n=4, seed=7, temperature=0.5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert {choice.message.content for choice in answer.choices} == {ANSWER}
    assert sorted(ask.sampling.seed for ask in reader.asks) == [7, 8, 9, 10]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4 * 36)


def test_several_answers_stream_mixed(ai: openai.OpenAI, reader: FakeReader) -> None:
    """Each chunk names its answer; usage comes once, when all have ended."""
    reader.pause = 0.005
    texts, ends, usage = ["", "", ""], [], []
    for chunk in ai.completions.create(
        model=MODEL, prompt="hello", n=3, stream=True, max_tokens=5, stream_options={"include_usage": True}
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            ends += [choice.index] if choice.finish_reason == "length" else []
        usage += [chunk.usage] if chunk.usage else []
    assert texts == ["A flower is the part"] * 3
    assert sorted(ends) == [0, 1, 2]
    assert [one.completion_tokens for one in usage] == [15]


def test_several_prompts_are_answered_in_order(ai: openai.OpenAI, reader: FakeReader) -> None:
    """A list of prompts, texts or tokens, with ``n`` answers each."""
    answer = ai.completions.create(model=MODEL, prompt=["one", "two words"], n=2, max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None and answer.usage.prompt_tokens == 3
    ids = list(reader.encode("hello there"))
    ai.completions.create(model=MODEL, prompt=ids, max_tokens=3)
    assert reader.asks[-1].prompt == Ids(tuple(ids))


def test_one_failure_among_several_fails_all(ai: openai.OpenAI, reader: FakeReader) -> None:
    """And none of them goes on."""
    with pytest.raises(openai.InternalServerError, match="no donor"):
        ai.completions.create(model=MODEL, prompt=["fine", "/nodonor"])
    assert reader.cancelled.wait(2)


def test_chat_logprobs_name_each_token_of_the_text(ai: openai.OpenAI) -> None:
    """Token, bytes, log-probability and as many alternatives as were asked for."""
    answer = ai.chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2, max_tokens=4
    )
    logs = answer.choices[0].logprobs
    assert logs is not None and logs.content is not None
    assert "".join(one.token for one in logs.content) == answer.choices[0].message.content
    assert bytes(logs.content[1].bytes or []) == b" flower"
    assert [len(one.top_logprobs) for one in logs.content] == [2] * 4
    assert logs.content[0].logprob == logs.content[0].top_logprobs[0].logprob == -0.1
    streamed = ai.chat.completions.create(
        model=MODEL, messages=HELLO, logprobs=True, max_tokens=4, stream=True
    )
    tokens = [one for c in streamed for o in c.choices if o.logprobs for one in o.logprobs.content or []]
    assert [one.token for one in tokens] == [one.token for one in logs.content]
    assert all(one.top_logprobs == [] for one in tokens)


def test_logprobs_are_none_unless_asked_for(ai: openai.OpenAI) -> None:
    """As OpenAI answers."""
    assert ai.chat.completions.create(model=MODEL, messages=HELLO).choices[0].logprobs is None


def test_completion_logprobs_have_offsets(ai: openai.OpenAI) -> None:
    """In the older shape; the token itself is among the alternatives, also with none asked for."""
    answer = ai.completions.create(model=MODEL, prompt="hi", logprobs=0, max_tokens=3, stop=[" is"])
    logs = answer.choices[0].logprobs
    assert logs is not None
    assert (logs.tokens, logs.text_offset) == (["A", " flower"], [0, 1])
    assert logs.token_logprobs == [-0.1, -0.1]
    assert logs.top_logprobs == [{"A": -0.1}, {" flower": -0.1}]
    five = ai.completions.create(model=MODEL, prompt="hi", logprobs=5, max_tokens=1).choices[0].logprobs
    assert five is not None and five.top_logprobs is not None and len(five.top_logprobs[0]) == 5


def test_echo_puts_the_prompt_first(ai: openai.OpenAI) -> None:
    """Whole and streamed; not with logprobs."""
    answer = ai.completions.create(model=MODEL, prompt="Say: ", echo=True, max_tokens=2)
    assert answer.choices[0].text == "Say: A flower"
    chunks = ai.completions.create(model=MODEL, prompt="Say: ", echo=True, max_tokens=2, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Say: A flower"
    with pytest.raises(openai.BadRequestError, match="logprobs") as caught:
        ai.completions.create(model=MODEL, prompt="Say: ", echo=True, logprobs=1)
    assert (caught.value.param, caught.value.code) == ("echo", "unsupported_parameter")


def test_too_many_answers_at_once_are_refused(ai: openai.OpenAI, app: Flask, reader: FakeReader) -> None:
    """With the status that tells clients to wait; when others end there is room again."""
    reader.pause = 0.2
    waiting = [ai.completions.create(model=MODEL, prompt=["a"] * 16, stream=True) for _ in range(4)]
    with pytest.raises(openai.RateLimitError, match="Wait for one to end"):
        ai.completions.create(model=MODEL, prompt="b")
    for stream in waiting:
        stream.close()
    reader.pause = 0

    def fits() -> bool:
        try:
            return bool(ai.completions.create(model=MODEL, prompt="b").choices)
        except openai.RateLimitError:
            return False

    until = time.monotonic() + 5
    while not fits():
        assert time.monotonic() < until


BAD: list[tuple[str, object, str]] = [
    ("temperature", 2.5, "temperature"),
    ("temperature", "hot", "temperature"),
    ("temperature", True, "temperature"),
    ("top_p", -0.1, "top_p"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", 1.5, "max_tokens"),
    ("seed", "x", "seed"),
    ("stop", [""], "stop"),
    ("stop", ["a"] * 5, "stop"),
    ("stream", "yes", "stream"),
    ("stream_options", {"include_usage": True}, "stream_options"),
    ("messages", [], "messages"),
    ("messages", "hello", "messages"),
    ("messages", [{"role": "judge", "content": "a"}], "messages[0].role"),
    ("messages", [{"role": "user", "content": None}], "messages[0].content"),
    ("messages", [{"role": "user", "content": "\ud800"}], "messages[0].content"),
    ("messages", [7], "messages[0]"),
    ("n", 5, "n"),
    ("n", 0, "n"),
    ("logprobs", 2, "logprobs"),
    ("top_logprobs", 2, "top_logprobs"),
    ("top_logprobs", 21, "top_logprobs"),
    ("tools", [{"type": "function"}], "tools"),
    ("response_format", {"type": "json_object"}, "response_format"),
    ("logit_bias", {"1": 2}, "logit_bias"),
    ("messages", [{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
    ("messages", [{"role": "tool", "content": "a"}], "messages[0]"),
]


@pytest.mark.parametrize(("field", "value", "param"), BAD)
def test_bad_and_unsupported_values_are_refused_by_name(
    client: FlaskClient, reader: FakeReader, field: str, value: object, param: str
) -> None:
    """The error names the field, and nothing is asked of the node."""
    answer = client.post("/v1/chat/completions", json={"model": MODEL, "messages": HELLO, field: value})
    error = answer.get_json()["error"]
    assert answer.status_code == 400
    assert error["param"] == param and error["type"] == "invalid_request_error"
    assert error["message"].lower().startswith(param.lower())
    assert not reader.asks


HARMLESS = [
    {"n": 1},
    {"logprobs": False},
    {"tools": None},
    {"response_format": {"type": "text"}},
    {"stop": None},
]


@pytest.mark.parametrize("more", HARMLESS)
def test_values_that_ask_for_nothing_are_taken(client: FlaskClient, more: dict[str, object]) -> None:
    """Clients that always send a field with its default are served."""
    body = {"model": MODEL, "messages": HELLO, **more}
    assert client.post("/v1/chat/completions", json=body).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"a"', b"\xff\xfe", b"[" * 100_000])
def test_malformed_bodies_are_refused(client: FlaskClient, body: bytes) -> None:
    """What is not a JSON object gets a 400 in the usual shape."""
    answer = client.post("/v1/chat/completions", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"]


def test_what_is_wrong_is_named_as_the_client_wrote_it(client: FlaskClient) -> None:
    """A field keeps its spelling, and a body that is no JSON is called that."""
    body = {"model": MODEL, "messages": HELLO, "max_tokens": "8"}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.get_json()["error"]["message"] == "max_tokens: must be a whole number."
    answer = client.post("/v1/chat/completions", json={"messages": HELLO})
    assert answer.get_json()["error"]["message"] == "model: is missing."
    answer = client.post("/v1/chat/completions", data=b"{", content_type="application/json")
    assert "must be JSON" in answer.get_json()["error"]["message"]


def test_a_wrong_method_hears_which_are_right(client: FlaskClient) -> None:
    """With 405 comes ``Allow``, as HTTP asks for."""
    answer = client.delete("/v1/models")
    assert answer.status_code == 405
    assert {"GET", "HEAD"} <= set(answer.allow)


def test_numbers_that_json_does_not_know_are_refused(client: FlaskClient) -> None:
    """Python reads NaN, Infinity and whole numbers without end; they are no temperature."""
    for word in ("NaN", "Infinity", "1e999", "9" * 400):
        body = f'{{"model": "{MODEL}", "prompt": "a", "temperature": {word}}}'
        answer = client.post("/v1/completions", data=body, content_type="application/json")
        assert answer.get_json()["error"]["param"] == "temperature"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [
        ("/toolong", 400, "context_length_exceeded"),
        ("/nodonor", 503, "no_donor"),
        ("/lost", 503, "swarm_error"),
        (" ", 400, None),
    ],
)
def test_errors_before_the_first_word_have_their_status(
    ai: openai.OpenAI, prompt: str, status: int, code: str | None, stream: bool
) -> None:
    """Also a stream that never began answers with a proper status."""
    with pytest.raises(openai.APIStatusError) as caught:
        ai.completions.create(model=MODEL, prompt=prompt, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.code == code


def test_an_error_in_the_middle_ends_the_stream_with_words(ai: openai.OpenAI, reader: FakeReader) -> None:
    """What came is kept, then the client's library raises the error."""
    reader.fails_after = 3
    stream = iter(ai.completions.create(model=MODEL, prompt="hi", stream=True))
    assert "".join(next(stream).choices[0].text for _ in range(3)) == "A flower is"
    with pytest.raises(openai.APIError, match="was lost"):
        next(stream)


def test_an_unknown_model_is_not_found(ai: openai.OpenAI) -> None:
    """404 with the name of the one that is here."""
    with pytest.raises(openai.NotFoundError, match="idlebloom-demo"):
        ai.chat.completions.create(model="gpt-4", messages=HELLO)


def test_a_client_that_closes_its_stream_cancels(ai: openai.OpenAI, reader: FakeReader) -> None:
    """Closing after a few words stops the donors."""
    reader.pause = 0.05
    stream = ai.completions.create(model=MODEL, prompt="hi", max_tokens=500, stream=True)
    next(iter(stream))
    stream.close()
    assert reader.cancelled.wait(2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_before_the_first_word_cancels(
    server: Server, reader: FakeReader, stream: bool
) -> None:
    """Noticed although nothing is being sent."""
    reader.late = 60
    body = json.dumps({"model": MODEL, "prompt": "hi", "stream": stream}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head.encode() + kind + body)
        while not reader.asks:
            threading.Event().wait(0.01)
    assert reader.cancelled.wait(2)


def test_sixteen_at_once(ai: openai.OpenAI, reader: FakeReader) -> None:
    """Many clients are answered side by side."""
    reader.pause = 0.01

    def ask(number: int) -> str:
        return ai.completions.create(model=MODEL, prompt=f"hi {number}", max_tokens=20).choices[0].text

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(ask, range(16)))) == 1
