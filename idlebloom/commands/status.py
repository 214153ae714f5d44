"""``idlebloom status``: what the running node is doing."""

from __future__ import annotations

import argparse
import json
from typing import Any

from core import words
from core.door import find_running
from core.paths import Paths
from core.terms import State

NAME = "status"
HELP = "what the running node is doing"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(args: argparse.Namespace, paths: Paths) -> int:
    node = find_running(paths.door_file)
    status = node.request("/api/status?once=1")
    print(json.dumps(status, ensure_ascii=False) if args.json else "\n".join(lines(status, node.url)))
    return 0


def lines(status: dict[str, Any], url: str) -> list[str]:
    """The snapshot for a person; what it lacks is left out."""
    said = [f"{_state(status)} · {url}"]
    if span := status.get("span"):
        sessions = status.get("sessions", 0)
        serves = status["state"] in (State.GIVING, State.LEAVING)
        open_now = f"serving layers {_layers(span)}, {_count(sessions, 'conversation')} open"
        said.append(open_now if serves else f"to serve layers {_layers(span)}")
    if progress := status.get("progress"):
        done, total = words.size(progress["done_bytes"]), words.size(progress["total_bytes"])
        said.append(f"{progress['phase']}: {done} of {total}")
    if today := status.get("today"):
        given = f"{_count(today['tokens'], 'token')} of {_count(today['conversations'], 'conversation')}"
        said.append(
            f"today: {given}, {words.size(today['up_bytes'])} up, {words.size(today['down_bytes'])} down"
        )
    if (swarm := status.get("swarm")) and swarm.get("model"):
        missing = ", ".join(_layers(span) for span in swarm.get("missing", ()))
        whole = "the whole model is served" if swarm.get("whole") else f"layers without a donor: {missing}"
        said.append(f"swarm: {swarm['model']}, {_count(swarm.get('donors', 0), 'donor')}, {whole}")
    return said


def _state(status: dict[str, Any]) -> str:
    state = words.state(State(status["state"]))
    reason = (status.get("reason") or {}).get("text")
    return f"{state}: {reason}" if reason else state


def _layers(span: dict[str, int]) -> str:
    first, last = span["start"], span["end"] - 1
    return str(first) if first == last else f"{first} to {last}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
