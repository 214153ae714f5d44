"""``idlebloom demo``: the page, its status and the APIs over three donors of its own."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import psutil
import pytest

from tests.end_to_end.programs import Folder, Program, folder


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
        "sessions",
        "today",
        "vram",
        "rates",
        "swarm",
    }
    assert status["state"] == "off" and status["reason"]["kind"] == "no_consent"
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
