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
        serves = status["state"] in (State.GIVING, State.LEAVING)
        said.append(_serving(status, span) if serves else f"to serve layers {_layers(span)}")
    if progress := status.get("progress"):
        said.append(_progress(progress))
    if (memory := status.get("vram")) and memory["used"] and memory["cap"]:
        said.append(f"memory: {words.size(memory['used'])} of at most {words.size(memory['cap'])}")
    if today := status.get("today"):
        said.append(_today(today))
    if (swarm := status.get("swarm")) and swarm.get("model"):
        said.append(_swarm(swarm))
    return said


def _serving(status: dict[str, Any], span: dict[str, int]) -> str:
    said = f"serving layers {_layers(span)}, {_count(status.get('sessions', 0), 'conversation')} open"
    tokens = status.get("rates", {}).get("tokens", 0)
    return f"{said}, {tokens:.1f} tokens/s in the last minute" if tokens else said


def _progress(progress: dict[str, Any]) -> str:
    done, total = words.size(progress["done_bytes"]), words.size(progress["total_bytes"])
    left = progress.get("seconds_left")
    return f"{progress['phase']}: {done} of {total}{f', about {_time(left)} left' if left else ''}"


def _today(today: dict[str, int]) -> str:
    if not any(today.values()):
        return "today: nothing given yet"
    given = f"{_count(today['tokens'], 'token')} of {_count(today['conversations'], 'conversation')}"
    return f"today: {given}, {words.size(today['up_bytes'])} up, {words.size(today['down_bytes'])} down"


def _swarm(swarm: dict[str, Any]) -> str:
    if not swarm.get("donors"):
        return f"swarm: {swarm['model']}, nobody serves it now"
    missing = ", ".join(_layers(span) for span in swarm.get("missing", ()))
    whole = "the whole model is served" if swarm.get("whole") else f"layers without a donor: {missing}"
    return f"swarm: {swarm['model']}, {_count(swarm['donors'], 'donor')}, {whole}"


def _state(status: dict[str, Any]) -> str:
    state = words.state(State(status["state"]))
    reason = (status.get("reason") or {}).get("text")
    if not reason:
        return state
    return str(reason) if reason.startswith(state) else f"{state}: {reason}"


def _layers(span: dict[str, int]) -> str:
    first, last = span["start"], span["end"] - 1
    return str(first) if first == last else f"{first} to {last}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    return _count(round(seconds), "second") if seconds < 90 else _count(round(seconds / 60), "minute")
