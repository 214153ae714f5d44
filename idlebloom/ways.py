"""The ways to a model that is whole, as the chat page offers them: each is a command that a person could
give, run for them; the demo stays until the node ends."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from core.errors import NodeError
from core.paths import Paths, code
from core.preferences import Preferences
from core.settings import Donate

COMMAND_SECONDS = 60.0
COMMANDS = {"try": "demo", "join": "join", "invite": "invite"}


class NodeWays:
    def __init__(self, paths: Paths, preferences: Preferences) -> None:
        self._paths, self._preferences = paths, preferences
        self._demo: subprocess.Popen[str] | None = None
        self._demo_url = ""
        self._turn = threading.Lock()

    def offered(self) -> tuple[str, ...]:
        known = [
            name
            for name, command in COMMANDS.items()
            if importlib.util.find_spec(f"idlebloom.commands.{command}") is not None
        ]
        return (known[0], "just", *known[1:])

    def try_here(self) -> str:
        with self._turn:
            if self._demo is None or self._demo.poll() is not None:
                self._demo, self._demo_url = None, ""
                self._demo_url = self._start_demo()
            return self._demo_url

    def just_here(self) -> dict[str, object]:
        alone = not self._preferences.settings.swarm
        applied = self._preferences.change({"swarm": [], "donate": str(Donate.ALWAYS)})
        return {"restart": not (alone and applied.live)}

    def join(self, link: str) -> dict[str, object]:
        return self._run("join", link)

    def invite(self) -> dict[str, object]:
        return self._run("invite")

    def close(self) -> None:
        """Ends the demo; it ends by itself too when this process is gone."""
        with self._turn:
            demo, self._demo = self._demo, None
        if demo is not None and demo.stdin is not None:
            demo.stdin.close()
            try:
                demo.wait(10)
            except subprocess.TimeoutExpired:
                demo.kill()
                demo.wait()
            if demo.stdout is not None:
                demo.stdout.close()

    def _start_demo(self) -> str:
        demo = subprocess.Popen(
            [*_program("demo"), "--json", "--no-browser", "--owned", "--port", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            text=True,
            start_new_session=True,
        )
        self._demo = demo
        line = demo.stdout.readline() if demo.stdout is not None else ""
        try:
            return str(json.loads(line)["url"])
        except (ValueError, KeyError, TypeError):
            raise NodeError("the demo did not start", "Start it in a terminal: idlebloom demo.") from None

    def _run(self, command: str, *arguments: str) -> dict[str, object]:
        data = ["--data", str(self._paths.settings)] if self._paths.settings == self._paths.state else []
        try:
            done = subprocess.run(
                [*_program(command), "--json", *data, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=_environment(),
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NodeError(f"idlebloom {command} did not end in time", "Try it in a terminal.") from None
        if done.returncode != 0:
            why = (done.stderr.strip().splitlines() or ["it failed"])[-1]
            raise NodeError(why.removeprefix("idlebloom: "))
        found: Any = json.loads(done.stdout)
        return dict(found)


def _program(command: str) -> list[str]:
    return [sys.executable, "-m", "idlebloom", command]


def _environment() -> dict[str, str]:
    """A child finds the packages from the source tree and from an installed wheel alike."""
    places = [str(code()), *([str(Path(code()).parent.parent)] if Path(code()).name == "_app" else [])]
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*places, *([known] if known else [])])}
