"""The page of a node that is killed, and of one whose swarm lacks a model."""

from __future__ import annotations

import json
import signal
import urllib.request
from typing import Any

import psutil
import pytest
from websocket import WebSocket, create_connection

from core.door import RunningNode, find_running
from core.errors import NodeError
from tests.end_to_end.programs import Folder, until


def door_of(place: Folder) -> RunningNode:
    return find_running(place.path / "data" / "run" / "door.json")


def opened(door: RunningNode) -> WebSocket:
    url = f"ws{door.url.removeprefix('http')}/api/chat"
    ws = create_connection(
        url, timeout=60, header=[f"Authorization: Bearer {door.token}"], suppress_origin=True
    )
    ws.send(json.dumps({"type": "show", "conversation": None}))
    return ws


def hear(ws: WebSocket, kind: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(ws.recv())
        if message["type"] == kind:
            return message


def hang_up_on_an_answer(door: RunningNode) -> None:
    """A program that goes in the middle of its answer frees what the donor, this node's own, held for it."""
    url = f"ws{door.url.removeprefix('http')}/api/v2/generate"
    ws = create_connection(url, timeout=60, suppress_origin=True)
    for message in (
        {"type": "open_inference_session", "model": "idlebloom/demo", "max_length": 1000},
        {"type": "generate", "inputs": "The moon", "max_new_tokens": 1, "stop_sequence": "never"},
    ):
        ws.send(json.dumps(message))
        assert json.loads(ws.recv())["ok"]
    until(lambda: door.request("/api/status?once=1")["sessions"] == 1, 30, "the donor holds a session")
    ws.shutdown()
    until(lambda: door.request("/api/status?once=1")["sessions"] == 0, 30, "the donor holds none")


def join(door: RunningNode, link: str) -> None:
    """A spoilt link is refused in words; the right one is what the node belongs to, until it leaves."""
    with pytest.raises(NodeError, match="link"):
        door.request("/api/ways/join", {"link": link[:-3]}, seconds=60)
    told = door.request("/api/ways/join", {"link": link}, seconds=60)
    assert told["restart"] and told["private"]
    assert door.request("/api/settings")["swarm"] == told["swarm"] != []
    assert door.request("/api/ways/just", {}, seconds=60)["restart"]
    assert door.request("/api/settings")["swarm"] == []


def test_a_killed_node_loses_no_finished_message(place: Folder) -> None:
    """What the page has seen to be finished is there after the next start; the demo that the page had
    started goes with the node. The link that the page makes is one that it takes."""
    assert place.run("settings", "set", "donate", "always").out == "always\n"
    program = place.start("node", "--json", "--port", "0")
    program.ready()
    door = door_of(place)
    until(lambda: door.request("/api/status?once=1")["swarm"]["whole"], 60, "the model is whole")
    hang_up_on_an_answer(door)
    ws = opened(door)
    ws.send(json.dumps({"type": "say", "conversation": None, "text": "What is Idlebloom?"}))
    ended = hear(ws, "ended")
    assert ended["state"] == "done"
    ws.send(json.dumps({"type": "say", "conversation": None, "text": "Tell me a story"}))
    half = hear(ws, "piece")["conversation"]
    url = door.request("/api/ways/try", {}, seconds=60)["url"]
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        assert json.loads(answer.read())["data"][0]["id"] == "idlebloom/demo"
    invited = door.request("/api/ways/invite", {}, seconds=60)
    assert invited["private"] and invited["restart"] and invited["reach"] == "only on this PC"
    (demo,) = [one for one in program.processes("demo") if "--owned" in one.cmdline()]
    program.send(signal.SIGKILL)
    ws.shutdown()
    until(
        lambda: not psutil.pid_exists(demo.pid) or demo.status() == psutil.STATUS_ZOMBIE, 20, "the demo ends"
    )
    again = place.start("node", "--json", "--port", "0")
    again.ready()
    door = door_of(place)
    kept = door.request(f"/api/conversations/{ended['conversation']}")
    assert [(one["role"], one["state"]) for one in kept["messages"]] == [
        ("user", "done"),
        ("assistant", "done"),
    ]
    assert kept["messages"][1]["tokens"] == ended["tokens"] and kept["messages"][1]["text"]
    cut = door.request(f"/api/conversations/{half}")
    assert cut["messages"][1]["state"] in ("stopped", "done")
    join(door, invited["link"])
    again.send(signal.SIGTERM)
    assert again.wait() == 0
