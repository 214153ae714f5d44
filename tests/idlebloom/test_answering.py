"""An answer in the terminal, to a person and to a program."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.routing.ask import Ended, Event, Piece, Started
from core.terms import Finish, PeerId, Route, Span, Stage
from idlebloom import answering


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def answer() -> AsyncIterator[Event]:
    yield Started("a model", Route((Stage(PeerId("a donor"), Span(0, 10)),)), 4, 0)
    for piece in (" ", " Hello", " you"):
        yield Piece(piece, ())
    yield Ended(Finish.STOP, "  Hello you", (1, 1, 1), 4, 1.0, 0.5, 4.0, 0.0)


@pytest.mark.parametrize(("out", "shown"), [(Terminal, "Hello you\n"), (io.StringIO, "  Hello you\n")])
async def test_a_person_sees_no_blank_in_front(
    monkeypatch: pytest.MonkeyPatch, out: type[io.StringIO], shown: str
) -> None:
    """A program does, through a pipe: what it reads is what the tokens spell."""
    monkeypatch.setattr("sys.stdout", out())
    monkeypatch.setattr("sys.stderr", io.StringIO())
    await answering.show(answer(), as_json=False)
    assert sys.stdout.getvalue() == shown  # type: ignore[attr-defined]


async def test_json_has_the_text_of_its_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    """The blank in front included, as any decoder of the ids gives it."""
    await answering.show(answer(), as_json=True)
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["text"] == "  Hello you"
