"""The running node's answers, as a command hears them at its door."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from core.door import RunningNode
from core.errors import IdlebloomError
from core.routing.ask import Ask, Ended, Message, Piece, Started, Waiting
from core.terms import Finish, Span
from idlebloom import remote
from webchat.app import create_app
from webchat.door import Door
from webchat.fake import FakeReader
from webchat.serve import Server


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader()


@pytest.fixture
def node(reader: FakeReader) -> Iterator[RunningNode]:
    server = Server(create_app(reader, Door(token="the token")), port=0)
    server.start()
    yield RunningNode(server.url, os.getpid(), "the token")
    server.stop()


def ask(text: str = "Hello") -> Ask:
    return Ask((Message("user", text),))


async def test_an_answer_that_waits_for_a_donor_says_so(reader: FakeReader, node: RunningNode) -> None:
    """As one without a node does: whoever asked knows why nothing comes."""
    reader.waits_after, reader.waits_seconds = 2, 0.05
    events = [event async for event in remote.generate(node, ask())]
    kinds = [type(event) for event in events]
    assert kinds[:4] == [Started, Piece, Piece, Waiting] and kinds[-1] is Ended
    assert events[3] == Waiting((Span(4, 7),))
    ended = events[-1]
    assert isinstance(ended, Ended) and ended.finish is Finish.STOP
    assert ended.text == "".join(event.text for event in events if isinstance(event, Piece))


async def test_the_nodes_errors_keep_their_words(node: RunningNode) -> None:
    """What is wrong, as commands say it, and what to do."""
    with pytest.raises(IdlebloomError, match=r"^layers 4 to 6 have no donor") as failed:
        async for _ in remote.generate(node, ask("/nodonor")):
            pass
    assert failed.value.advice
