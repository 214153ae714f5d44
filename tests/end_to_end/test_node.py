"""``idlebloom node`` as a donor and a reader in one, and the commands that talk to it."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.door import find_running
from tests.end_to_end.programs import START_SECONDS, Folder, Program, folder, kill, until

QUESTION = "What is Idlebloom?"
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""In a network of its own, in which there is no router to ask."""


@dataclass
class Node:
    place: Folder
    program: Program
    url: str
    states: list[str]

    def status(self) -> dict[str, Any]:
        return self.place.look("/api/status?once=1")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A fresh data folder, the bundled model, and consent."""
    with folder() as place:
        assert place.run("settings", "set", "donate", "always").out == "always\n"
        program = place.start("node", "--port", "0")
        program.close_input()
        opened = Node(place, program, program.line(), [])
        end = time.monotonic() + START_SECONDS
        while "giving" not in opened.states:
            assert time.monotonic() < end
            status = opened.status()
            if status["state"] not in opened.states[-1:]:
                opened.states.append(status["state"])
            time.sleep(0.05)
        yield opened
        assert program.process.poll() is None
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert program.err == "" and program.is_gone()


def test_programs_need_the_key_where_the_owner_says_so(node: Node) -> None:
    """At once, without a new start; the commands of the owner go on as before."""

    def models(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{node.url}/v1/models", headers=headers)
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return int(refused.code)

    assert models("any") == 200
    change = {"api_key_required": True}
    door = find_running(node.place.path / "data" / "run" / "door.json")
    assert door.request("/api/settings", change, "PUT")["api_key_required"] is True
    key = json.loads(node.place.run("key", "--json").out)["key"]
    assert (models("any"), models(key)) == (401, 200)
    assert door.request("/api/settings", {"api_key_required": False}, "PUT")["api_key_required"] is False
    assert models("any") == 200


def test_it_says_what_it_does_while_it_starts(node: Node) -> None:
    """The page is up before the donor: loading, then giving."""
    assert node.states == ["loading", "giving"]


def test_ask_goes_through_the_running_node(node: Node) -> None:
    """The same JSON as the demo's, with a route of this one donor."""
    answer = node.place.answer("ask", QUESTION, "--greedy")
    assert answer["text"].strip().startswith("Idlebloom")
    assert [(stage["start"], stage["end"]) for stage in answer["route"]] == [(0, 10)]
    assert answer["token_ids"] and answer["prompt_tokens"] > 3 and answer["finish"] == "stop"
    program = node.place.run("ask", QUESTION, "--greedy")
    assert program.out == answer["text"] + "\n"
    assert program.err.startswith("[") and "over 1 donor, " in program.err


def test_swarm_and_status_tell_the_truth(node: Node) -> None:
    """One donor, all layers, for people and for programs."""
    swarm = node.place.answer("swarm")
    (donor,) = swarm["donors"]
    assert (donor["start"], donor["end"], donor["state"], swarm["whole"]) == (0, 10, "online", True)
    assert node.place.run("swarm").out.endswith("whole: every layer has a donor\n")
    status = node.place.answer("status")
    assert (status["state"], status["span"]) == ("giving", {"start": 0, "end": 10})
    said = node.place.run("status").out.split("\n")
    assert said[0] == f"giving · {node.url}"
    assert said[1].startswith("serving layers 0 to 9")


def test_there_is_one_node(node: Node) -> None:
    """A second one ends with the first one's address."""
    second = node.place.run("node", "--port", "0")
    assert (second.process.returncode, second.out) == (1, "")
    assert second.err == (
        f"idlebloom: a node is already running at {node.url}. Use that one, or end it first.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("word " * 10_000,), "tokens and this model holds 2048 in all"),
        ((QUESTION, "--max-tokens", "99999"), "this model holds 2048 in all"),
    ],
    ids=["10,000 tokens", "99,999 new tokens"],
)
def test_a_bad_question_is_refused_in_one_line(node: Node, arguments: tuple[str, ...], words: str) -> None:
    """And the node goes on."""
    program = node.place.run("ask", *arguments)
    assert (program.process.returncode, program.out) == (1, "")
    assert words in program.err and program.err.count("\n") == 1
    assert node.program.process.poll() is None


def test_a_killed_worker_is_started_again(node: Node) -> None:
    """Meanwhile the status says trouble, why, and when it is tried again."""
    (worker,) = node.program.workers()
    kill([worker])
    until(lambda: node.status()["state"] == "trouble", 4)
    reason = node.status()["reason"]
    assert reason["kind"] == "worker_failed" and reason["until"] is not None
    assert "signal 9" in reason["text"] and "trying again at" in reason["text"]
    until(lambda: node.status()["state"] == "giving", START_SECONDS)
    (again,) = node.program.workers()
    assert again.pid != worker.pid
    assert node.place.answer("ask", QUESTION, "--greedy", "--max-tokens", "3")["finish"] == "length"
    sockets = [path.name for path in (node.program.data / "run").glob("p2p-*")]
    assert len(sockets) == 2


def test_consent_is_taken_back_and_given_at_once(node: Node) -> None:
    """The setting reaches the running node: its worker ends, and starts again."""
    assert node.place.run("settings", "set", "donate", "off").out == "off\n"
    until(lambda: not node.program.workers(), 3)
    # Until the worker's end is noticed it is *leaving*, for the same reason.
    until(lambda: node.status()["state"] == "off", 3)
    assert (node.status()["reason"]["kind"], node.status()["span"]) == ("no_consent", None)
    until(lambda: not node.status()["swarm"]["whole"], 10)
    node.place.run("settings", "set", "donate", "always")
    until(lambda: node.status()["state"] == "giving", START_SECONDS)


def test_layers_take_the_space_and_the_folder_that_were_chosen(node: Node, tmp_path: Path) -> None:
    """A smaller ``disk_gb`` drops what was used least recently, at once; another ``data_dir`` takes
    along what is left."""
    until(lambda: node.status()["state"] == "giving", START_SECONDS)
    kept = node.place.path / "data" / "cache" / "weights" / "maker--model" / ("0" * 40)
    kept.mkdir(parents=True)
    for name, gigabytes, used in (("old", 2, 1), ("new", 0.5, 2)):
        (kept / f"{name}.safetensors").touch()
        os.truncate(kept / f"{name}.safetensors", int(gigabytes * 1e9))  # takes no space in truth
        os.utime(kept / f"{name}.safetensors", (used, used))
    door = find_running(node.place.path / "data" / "run" / "door.json")
    door.request("/api/settings", {"disk_gb": 1}, "PUT")
    until(lambda: [path.name for path in kept.iterdir()] == ["new.safetensors"], 10)
    door.request("/api/settings", {"data_dir": str(tmp_path)}, "PUT")
    moved = tmp_path / "weights" / kept.parent.name / kept.name / "new.safetensors"
    until(lambda: moved.exists() and not kept.exists(), 20)
    assert moved.stat().st_size == 5 * 10**8


def test_an_owned_node_ends_with_its_input(place: Folder) -> None:
    """Its owner holds its standard input, and has gone when that ends."""
    program = place.start("node", "--owned", "--port", "0", "--json")
    ready = program.ready()
    assert ready == {"url": ready["url"], "pid": program.process.pid}
    program.close_input()
    assert program.wait(10) == 0
    assert program.err == "" and program.is_gone()


def test_a_killed_node_takes_its_worker_along(place: Folder) -> None:
    """No process and no socket stays, and the next start is not in its way."""
    place.run("settings", "set", "donate", "always")
    program = place.start("node", "--port", "0", "--json")
    program.ready()
    until(lambda: len(program.workers()) == 1, START_SECONDS)
    program.send(signal.SIGKILL)
    program.wait()
    until(lambda: not program.processes() and not program.leftovers(), 5, "all gone")
    assert "not running" in place.run("status").err


def test_a_used_quota_ends_giving(place: Folder) -> None:
    """What a month has carried outlives a start; there is a worker as far as the owner allows."""
    given = {"tokens": 0, "conversations": 0, "up_bytes": 150_000_000, "down_bytes": 0, "hours": 0.0}
    ledger = {"days": {time.strftime("%Y-%m-%d"): given}, "before": given | {"up_bytes": 0}, "events": []}
    (place.path / "data").mkdir()
    (place.path / "data" / "ledger.json").write_text(json.dumps(ledger))
    for name, value in (("monthly_gb", "0.1"), ("donate", "always"), ("return_minutes", "0.05")):
        assert place.run("settings", "set", name, value).process.returncode == 0
    program = place.start("node", "--port", "0")
    program.line()
    door = find_running(place.path / "data" / "run" / "door.json")
    until(lambda: (door.request("/api/status?once=1")["reason"] or {}).get("kind") == "quota", START_SECONDS)
    assert not program.workers()
    door.request("/api/settings", {"monthly_gb": 100}, "PUT")
    until(lambda: door.request("/api/status?once=1")["state"] == "giving", START_SECONDS)
    assert program.workers()
    door.request("/api/settings", {"monthly_gb": 0.1}, "PUT")
    until(lambda: not program.workers(), START_SECONDS)


@pytest.mark.root
def test_strangers_are_served_on_the_owners_word_alone(node: Node, place: Folder) -> None:
    """p2pd relays for nobody and leaves the router alone, unless it was told otherwise."""

    def flags(program: Program) -> set[str]:
        return set(program.daemon_of(program.itself()).cmdline())

    assert {"-natPortMap=0", "-relayMaxReservations=0"} <= flags(node.program)
    for name in ("relay_for_strangers", "open_router_ports"):
        assert place.run("settings", "set", name, "on").process.returncode == 0
    generous = place.start("node", "--port", "0", through=ALONE)
    generous.line()
    assert "-natPortMap=1" in flags(generous)
    assert not {"-natPortMap=0", "-relayMaxReservations=0"} & flags(generous)


def peers(place: Folder) -> set[str]:
    """The donors that the node there sees."""
    return {donor["peer"] for donor in place.look("/api/v1/state")["donors"]}


def test_nodes_meet_through_a_meeting_point(place: Folder) -> None:
    """Donors of two PCs see each other, and a third without a node asks them."""
    with folder() as first_place, folder() as second_place:
        meeting = place.start("bootstrap", "--host", "127.0.0.1", "--json")
        both = (first_place, second_place)
        addresses = json.loads(meeting.line())["addresses"]
        assert [address.split("/")[2] for address in addresses] == ["127.0.0.1"]
        for node_place in both:
            node_place.run("settings", "set", "donate", "always")
            node_place.start("node", "--port", "0", "--json", "--peers", ",".join(addresses))
        for program in (*first_place.programs[-1:], *second_place.programs[-1:]):
            program.ready()
        until(lambda: all(len(peers(one)) == 2 for one in both), START_SECONDS)
        donors = peers(first_place)
        assert donors == peers(second_place)
        place.run("settings", "set", "swarm", addresses[0])
        answer = place.answer("ask", QUESTION, "--greedy")
        assert {stage["peer"] for stage in answer["route"]} <= donors
        assert place.answer("swarm")["whole"]
        meeting.send(signal.SIGINT)
        assert meeting.wait(10) == 0 and meeting.err == ""
        again = place.start("bootstrap", "--host", "127.0.0.1", "--json")
        assert json.loads(again.line())["addresses"] == addresses  # links that name it lead there still


def test_without_a_node_and_a_swarm_there_is_advice(place: Folder) -> None:
    """What could be done is said at once."""
    assert "no node is running and no swarm is chosen. Start one with: idlebloom node" in place.refusal(
        "ask", QUESTION
    )
    assert "no node is running and no swarm is chosen" in place.refusal("swarm")
    assert "Idlebloom is not running" in place.refusal("status")


def test_a_swarm_that_does_not_answer_is_named(place: Folder) -> None:
    """A chosen swarm whose meeting points are gone is an error in words."""
    nobody = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWF3gBmyNDnZYFHej7D6CevjMyHv1yVc2tJ9qrrTZHqpT6"
    place.run("settings", "set", "swarm", nobody)
    assert "none of the swarm's meeting points answers" in place.refusal("ask", QUESTION)
