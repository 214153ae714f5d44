from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.terms import Because, Progress, Reason, Span, State, Status
from desktop import phrases
from desktop.snapshot import Given, Happening, read
from tests.desktop.door_server import reason, status

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (status(), "Idlebloom: Giving – To 2 readers now."),
        (status(sessions=0), "Idlebloom: Giving – Ready. Nobody is asking anything now."),
        (
            status("off", reason=reason("no_consent")),
            "Idlebloom: Not giving – This PC gives nothing until you say so.",
        ),
        (
            status("waiting", reason=reason("program", program="Quake", at="20:14")),
            "Idlebloom: Your turn – Yielded to Quake at 20:14.",
        ),
        (status("trouble", reason=reason("new", text="it sings")), "Idlebloom: Trouble – It sings."),
        (status("paused", reason=reason("paused")), "Idlebloom: Paused – Until you resume."),
        (
            status(
                "fetching",
                progress={"phase": "fetching", "done_bytes": 2e9, "total_bytes": 25e9, "seconds_left": 2100},
            ),
            "Idlebloom: Getting ready – Fetching: 2.0 GB of 25.0 GB, 35 min left",
        ),
    ],
)
def test_the_line_at_the_icon(said: dict[str, Any], line: str) -> None:
    """One line says what and why."""
    assert phrases.tooltip(read(said), now=NOW) == line


def test_before_there_is_a_node() -> None:
    """Without a snapshot the line says what is known."""
    assert phrases.tooltip(None) == "Idlebloom: starting"
    assert phrases.tooltip(None, "The node ended.") == "Idlebloom: The node ended."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (31, "31 s"),
        (60, "1 min"),
        (3540, "59 min"),
        (3600, "1 h"),
        (4800, "1 h 20 min"),
        (400_000, "5 days"),
    ],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    """Rounded to what matters."""
    assert phrases.lasting(seconds) == words


def test_a_pause_shows_the_time_left() -> None:
    """With its end and what is left of it."""
    assert phrases.pause_left(NOW + 5400, NOW).endswith("1 h 30 min left.")


def test_what_was_given() -> None:
    """In the words of the issue: tokens, conversations, bytes sent."""
    assert phrases.given(Given(412, 9, 1_200_000_000)) == "412 tokens of 9 conversations, 1.2 GB up"
    assert phrases.given(Given(1, 1, 10)) == "1 token of 1 conversation, 10 bytes up"
    assert phrases.given(Given()) == phrases.given(Given(hours=0.2)) == "nothing yet"


@pytest.mark.parametrize(
    ("span", "layers", "words"),
    [
        (Span(3, 8), None, "blocks 3 to 7"),
        (Span(3, 4), 32, "block 3"),
        (Span(0, 4), 32, "words in, blocks 1 to 3"),
        (Span(28, 32), 32, "blocks 28 to 30, words out"),
        (Span(0, 32), 32, "the whole model"),
        (Span(0, 1), 32, "words in"),
        (Span(31, 32), 32, "words out"),
    ],
)
def test_spans(span: Span, layers: int | None, words: str) -> None:
    """Blocks by the model's numbers, the ends by what they do."""
    assert phrases.blocks(span, layers) == words


def test_the_head_is_no_block() -> None:
    """What this PC holds is told with the model's number of blocks, where the node says that."""
    status = Status("0.1.0", State.GIVING, span=Span(4, 10))
    assert phrases.held(replace(status, blocks=8)) == "blocks 4 to 8, words out"
    assert phrases.held(replace(status, blocks=8, span=Span(0, 10))) == "the whole model"
    assert phrases.held(status) == "blocks 4 to 9" and phrases.held(replace(status, span=None)) == ""


def test_progress_without_a_size() -> None:
    """An unknown total is no fraction."""
    assert phrases.progress(Progress("loading", 0, 0)) == "Loading…"


def test_the_swarm() -> None:
    """Whole or with holes, in one line."""
    swarm = {"model": "m", "whole": False, "missing": [{"start": 1, "end": 4}], "donors": 1}
    assert phrases.swarm(read(status(swarm=swarm))) == "3 layers are missing, 1 donor"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Happening(NOW, State.GIVING, None), "Giving."),
        (
            Happening(NOW, State.WAITING, Because(Reason.INPUT, {"minutes": 3})),
            "Waiting: 3 more minutes without input.",
        ),
        (Happening(NOW, State.PAUSED, Because(Reason.PAUSED)), "Paused until you resume."),
        (Happening(NOW, State.TROUBLE, None, "it sings"), "Trouble: it sings."),
        (Happening(NOW, None, None), ""),
    ],
)
def test_events(event: Happening, words: str) -> None:
    """An event is a sentence; its state is not said twice."""
    assert phrases.happening(event, NOW) == words
