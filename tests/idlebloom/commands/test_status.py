from __future__ import annotations

import json
import os
from typing import Any

import pytest

from core.door import RunningNode
from core.paths import Paths
from core.terms import Because, Memory, Progress, Rates, Reason, Span, State, Status, SwarmView, Today
from idlebloom import launch
from idlebloom.commands.status import lines
from webchat.snapshots import status_shape


def test_no_node(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no node runs, that is said, with how to start one."""
    assert launch.main(["status"]) == 1
    assert "not running. Start it with: idlebloom node" in capsys.readouterr().err


def test_the_snapshot(
    door_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The running node is asked once for its snapshot, shown in words or as it is."""
    snapshot = status_shape(Status("0.1.0", State.OFF, Because(Reason.NO_CONSENT)))
    RunningNode(door_url, os.getpid(), "secret").write(Paths.of().door_file)
    asked = []

    def request(_: RunningNode, path: str) -> dict[str, Any]:
        asked.append(path)
        return snapshot

    monkeypatch.setattr(RunningNode, "request", request)
    assert launch.main(["status"]) == 0
    assert capsys.readouterr().out.startswith("off: this PC gives nothing until you say so")
    launch.main(["status", "--json"])
    assert json.loads(capsys.readouterr().out) == snapshot
    assert asked == ["/api/status?once=1"] * 2


def test_everything_in_words() -> None:
    """A full snapshot says what is served, fetched, given today, and which layers nobody has."""
    status = Status(
        "0.1.0",
        State.GIVING,
        span=Span(4, 7),
        progress=Progress("fetching", 5_000_000, 20_000_000, 600.0),
        sessions=1,
        vram=Memory(5_100_000_000, 9_000_000_000),
        rates=Rates(tokens=3.25),
        today=Today(412, 9, 1_200_000_000, 3_000),
        swarm=SwarmView("bloom", False, (Span(0, 1), Span(8, 10)), 3),
    )
    assert lines(status_shape(status), "http://127.0.0.1:7714") == [
        "giving · http://127.0.0.1:7714",
        "serving layers 4 to 6, 1 conversation open, 3.2 tokens/s in the last minute",
        "fetching: 5.0 MB of 20.0 MB, about 10 minutes left",
        "memory: 5.1 GB of at most 9.0 GB",
        "today: 412 tokens of 9 conversations, 1.2 GB up, 3 kB down",
        "swarm: bloom, 3 donors, layers without a donor: 0, 8 to 9",
    ]


def test_a_reason_that_names_the_state_is_enough() -> None:
    """Nothing is “paused: paused until 9”."""
    until = Status("0.1.0", State.WAITING, Because(Reason.INPUT, {"minutes": 3}))
    assert lines(status_shape(until), "URL")[0] == "waiting: 3 more minutes without input · URL"
    off = Status("0.1.0", State.OFF, Because(Reason.NO_NETWORK))
    assert lines(status_shape(off), "URL")[0] == "off: there is no network · URL"


def test_what_is_nothing_is_no_row_of_zeros() -> None:
    """Before anything was given, and where nobody serves."""
    status = Status("0.1.0", State.OFF, Because(Reason.NO_CONSENT), swarm=SwarmView("bloom"))
    assert lines(status_shape(status), "http://127.0.0.1:7714")[1:] == [
        "today: nothing given yet",
        "swarm: bloom, nobody serves it now",
    ]
