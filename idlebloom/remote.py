"""The running node's answers, over the socket that its page uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from simple_websocket import AioClient, ConnectionClosed
from simple_websocket import ConnectionError as NotConnected

from core.door import RunningNode
from core.errors import IdlebloomError, NodeError
from core.routing.ask import Ask, Ended, Event, Ids, Piece, Started, Waiting
from core.terms import Finish, PeerId, Route, Span, Stage


async def generate(node: RunningNode, ask: Ask) -> AsyncIterator[Event]:
    """The same events as the node's own. Raises the node's errors in its words."""
    socket = AioClient(
        node.url.replace("http", "ws", 1) + "/api/chat",
        headers={"Authorization": f"Bearer {node.token}", "Origin": node.url},
    )
    try:
        await _connect(socket)
        await socket.send(_question(ask))
        text = ""
        while True:
            said = json.loads(await socket.receive())
            event = _event(said, text)
            if event is None:
                continue
            yield event
            if isinstance(event, Piece):
                text += event.text
            elif isinstance(event, Ended):
                return
    except (ConnectionClosed, NotConnected, OSError) as error:
        raise NodeError("the node's connection broke before the answer was whole", "Ask again.") from error
    finally:
        if socket.connected:
            await socket.close()


async def _connect(socket: AioClient) -> None:
    """As its own ``connect`` does, which leaves the port out of the Host header: the node checks that."""
    socket.rsock, socket.wsock = await asyncio.open_connection(socket.host, socket.port)
    socket.host = f"{socket.host}:{socket.port}"
    await super(AioClient, socket).connect()


def _question(ask: Ask) -> str:
    if isinstance(ask.prompt, Ids):
        raise TypeError("commands ask in words")
    messages = (
        [{"role": "user", "text": ask.prompt}] if isinstance(ask.prompt, str) else map(asdict, ask.prompt)
    )
    sampling = {name: value for name, value in asdict(ask.sampling).items() if name in _SAMPLING}
    return json.dumps(
        {
            "type": "ask",
            "ask": 1,
            "messages": list(messages),
            "sampling": sampling,
            "max_tokens": ask.max_tokens,
        }
    )


_SAMPLING = {"temperature", "top_p", "repetition_penalty", "seed"}


def _event(said: dict[str, Any], text: str) -> Event | None:
    """``text`` is what came before. ``None`` for what is not about the answer."""
    match said.get("type"):
        case "started":
            stages = tuple(
                Stage(PeerId(one["peer"]), Span(one["start"], one["end"])) for one in said["route"]
            )
            return Started(said["model"], Route(stages), said["prompt_tokens"], said["reused_tokens"])
        case "piece":
            return Piece(said["text"], ())
        case "waiting":
            return Waiting(tuple(Span(one["start"], one["end"]) for one in said["missing"]), said["why"])
        case "ended":
            return Ended(
                Finish(said["finish"]),
                text,
                tuple(said["token_ids"]),
                said["prompt_tokens"],
                said["seconds"],
                said["first_token_seconds"],
                said["tokens_per_second"],
                said.get("predicted_seconds", 0.0),
            )
        case "error":
            raise IdlebloomError(said.get("message", said["title"].rstrip(".")), said["advice"])
    return None
