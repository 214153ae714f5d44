"""``idlebloom demo``: the page, its status and the APIs over three donors of its own."""

from __future__ import annotations

import json
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
import psutil
import pytest
from websocket import create_connection

from tests.end_to_end.programs import Folder, Program, folder, until


@dataclass
class Demo:
    program: Program
    url: str
    ready_seconds: float

    def get(self, path: str) -> Any:
        """As the page does it: with the cookie that it was given."""
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(f"{self.url}/") as page:
            assert page.status == 200
        with opener.open(self.url + path) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with folder() as place:
        program = place.start("demo", "--json", "--no-browser", "--port", "0")
        program.close_input()  # a service has none: that ends nothing
        ready = program.ready()
        assert ready == {"url": ready["url"], "pid": program.process.pid}
        yield Demo(program, ready["url"], 0.0)
        assert program.process.poll() is None
        assert program.err == ""


def test_the_page_is_there(demo: Demo) -> None:
    """It answers at the address that was printed, on this PC alone."""
    with urllib.request.urlopen(f"{demo.url}/") as page:
        text = page.read().decode()
    assert "<title>" in text and "Idlebloom" in text
    assert demo.url.startswith("http://127.0.0.1:")
    listening = [
        connection.laddr.ip
        for process in demo.program.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and set(listening) == {"127.0.0.1"}


def test_the_status_is_a_whole_snapshot(demo: Demo) -> None:
    """Every field of the snapshot is there, and the swarm is whole."""
    status = demo.get("/api/status?once=1")
    assert set(status) == {
        "version",
        "state",
        "reason",
        "span",
        "progress",
        "blocks",
        "finishing",
        "giving_until",
        "sessions",
        "today",
        "vram",
        "rates",
        "swarm",
    }
    assert (status["state"], status["reason"]) == ("giving", None)
    assert status["span"] == {"start": 0, "end": 10}
    assert set(status["today"]) == {"tokens", "conversations", "up_bytes", "down_bytes"}
    assert set(status["vram"]) == {"used", "cap"}
    swarm = status["swarm"]
    assert (swarm["whole"], swarm["missing"], swarm["donors"]) == (True, [], 3)


def test_the_map_shows_three_donors(demo: Demo) -> None:
    """Each with the layers that it holds."""
    state = demo.get("/api/v1/state")
    assert [(donor["start"], donor["end"]) for donor in state["donors"]] == [(0, 3), (3, 7), (7, 10)]
    assert {donor["state"] for donor in state["donors"]} == {"online"}
    assert state["whole"] and state["blocks"] == 8


def test_programs_ask_through_openai_s_client(demo: Demo) -> None:
    """Whole and streamed answers are the same, usage is counted, and a long prompt is refused in words."""
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="none", max_retries=0) as client:
        model = client.models.list().data[0].id
        question: Any = [{"role": "user", "content": "What is Idlebloom?"}]
        whole = client.chat.completions.create(model=model, messages=question, temperature=0)
        said = whole.choices[0].message.content
        assert said and whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None and whole.usage.completion_tokens > 10
        chunks = list(
            client.chat.completions.create(model=model, messages=question, temperature=0, stream=True)
        )
        assert len(chunks) > 10
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model=model, prompt="word " * 10_000)
        assert refused.value.code == "context_length_exceeded"
        assert "Traceback" not in str(refused.value)


def test_the_status_counts_an_answer_once(demo: Demo) -> None:
    """Though each of three donors had a part in it; it is open no longer than it lasts."""

    def today() -> dict[str, int]:
        found: dict[str, int] = demo.get("/api/status?once=1")["today"]
        return found

    def still() -> bool:
        """Donors tell of it every second, each at its own."""
        told = today()
        time.sleep(1.2)
        return today() == told

    until(still, 20)
    before = today()
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as client:
        model = client.models.list().data[0].id
        question: Any = [{"role": "user", "content": "What is Idlebloom?"}]
        said = client.chat.completions.create(model=model, messages=question, temperature=0)
    assert said.usage is not None
    until(lambda: today()["tokens"] - before["tokens"] >= said.usage.completion_tokens - 1, 20)
    until(lambda: demo.get("/api/status?once=1")["sessions"] == 0, 20)
    assert today()["tokens"] - before["tokens"] <= said.usage.total_tokens
    assert today()["conversations"] == before["conversations"] + 1
    assert today()["up_bytes"] > before["up_bytes"]


def test_programs_ask_for_several_answers_and_log_probabilities(demo: Demo) -> None:
    """Over the real ring: four answers of their own seeds, and each token with its alternatives."""
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as client:
        model = client.models.list().data[0].id
        hello: Any = [{"role": "user", "content": "What is Idlebloom?"}]
        told = client.chat.completions.create(
            model=model,
            messages=hello,
            n=4,
            temperature=2,
            seed=5,
            max_tokens=8,
            logprobs=True,
            top_logprobs=2,
        )
        again = client.chat.completions.create(
            model=model, messages=hello, temperature=2, seed=5, max_tokens=8
        )
    assert len({choice.message.content for choice in told.choices}) > 1
    assert again.choices[0].message.content == told.choices[0].message.content
    logs = told.choices[0].logprobs
    assert logs is not None and logs.content is not None
    assert "".join(one.token for one in logs.content).strip() == told.choices[0].message.content.strip()  # type: ignore[union-attr]
    assert all(len(one.top_logprobs) == 2 and one.logprob <= 0 for one in logs.content)


def test_sixteen_programs_are_answered_at_once(demo: Demo) -> None:
    """Each as if it were alone."""
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="any", max_retries=0) as client:
        model = client.models.list().data[0].id

        def ask(_: int) -> str:
            return (
                client.completions.create(model=model, prompt="The moon", max_tokens=12, temperature=0)
                .choices[0]
                .text
            )

        with ThreadPoolExecutor(16) as pool:
            assert len(set(pool.map(ask, range(16)))) == 1


def test_a_client_of_petals_chat_streams_token_by_token(demo: Demo) -> None:
    """The text is that of one long answer, and the session goes on after its stop."""
    form = urllib.parse.urlencode({"model": "idlebloom/demo", "inputs": "The moon", "max_new_tokens": 12})
    with urllib.request.urlopen(f"{demo.url}/api/v1/generate", form.encode()) as answer:
        whole = json.loads(answer.read())
    assert whole["ok"] is True and whole["outputs"]
    ws = create_connection(
        f"ws{demo.url.removeprefix('http')}/api/v2/generate", suppress_origin=True, timeout=60
    )
    ws.send(json.dumps({"type": "open_inference_session", "model": "idlebloom/demo", "max_length": 64}))
    assert json.loads(ws.recv()) == {"ok": True}
    wanted = {
        "type": "generate",
        "inputs": "The moon",
        "max_new_tokens": 1,
        "stop_sequence": whole["outputs"],
    }
    ws.send(json.dumps(wanted))
    replies = [json.loads(ws.recv())]
    while not replies[-1]["stop"]:
        replies.append(json.loads(ws.recv()))
    assert "".join(one["outputs"] for one in replies) == whole["outputs"]
    assert len(replies) > 3
    ws.send(json.dumps({"type": "generate", "inputs": " Go on.", "max_new_tokens": 3}))
    assert json.loads(ws.recv())["token_count"] <= 3
    ws.shutdown()


def test_a_taken_port_gives_the_next(demo: Demo, place: Folder) -> None:
    """Where the port is in use, the next free one is taken and printed."""
    taken = int(demo.url.rpartition(":")[2])
    second = place.start("node", "--json", "--port", str(taken))
    other = int(second.ready()["url"].rpartition(":")[2])
    assert taken < other < taken + 100


def test_no_port_left_is_said(place: Folder) -> None:
    """Where none is free, one line says which were tried."""
    with socket.create_server(("127.0.0.1", 65535)):
        assert "no port from 65535 can be used" in place.refusal("demo", "--port", "65535", "--donors", "1")
