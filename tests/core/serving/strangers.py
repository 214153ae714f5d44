"""Clients and neighbours that speak the protocol by hand."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from core.ring.frames import TURN, Frame, Lane, Resume
from core.swarm.codec import CONTROL, pack, receive
from core.swarm.fake import FakePeer
from core.swarm.frames import BULK, Dtype, pack_frame
from core.swarm.messages import Message, Open, Ready
from core.swarm.peer import Stream
from core.terms import WireDtype
from tests.core.rings import FakeRing, greedy, reference

HIDDEN, LAYERS = 48, 8


class Stranger:
    """A client that speaks the protocol by hand, to one donor."""

    def __init__(self, ring: FakeRing, donor: int, peer: FakePeer | None = None) -> None:
        self.ring, self.donor = ring, ring.donors[donor]
        self.peer = peer or ring.swarm.peer()
        self.session = secrets.token_bytes(16)
        self.stream: Stream

    async def dial(self, protocol: str = CONTROL) -> Stream:
        target = self.donor.peer
        self.stream = await self.peer.dial(target.peer_id, target.addresses, protocol)
        return self.stream

    def opening(self, **changes: Any) -> Open:
        span = self.donor.model.span
        fields: dict[str, Any] = {
            "session": self.session,
            "epoch": 1,
            "rollback": TURN,
            "stage": 0 if span.start == 0 else 1,
            "stages": 2,
            "model_id": self.ring.config.model_id,
            "revision": self.ring.config.revision,
            "span": span,
            "wire": WireDtype.FLOAT32,
            "max_length": 200,
            "previous": self.peer.peer_id,
            "following": b"",
        }
        return Open(**{**fields, **changes})

    async def say(self, message: Message) -> Message:
        self.stream.write(pack(message))
        return await self.hear()

    async def hear_all(self, seconds: float) -> list[Message]:
        """Everything said until ``seconds`` of silence."""
        heard: list[Message] = []
        try:
            while True:
                heard.append(await asyncio.wait_for(receive(self.stream), seconds))
        except TimeoutError:
            return heard

    async def hear(self) -> Message:
        return await asyncio.wait_for(receive(self.stream), 3)


async def tail(ring: FakeRing) -> tuple[Stranger, Stream]:
    """A stranger whose session is open at the tail, and who is the stage before it too."""
    stranger = Stranger(ring, 1)
    control = await stranger.dial()
    assert isinstance(await stranger.say(stranger.opening()), Ready)
    control.write(pack(Resume(stranger.session, 1, 1, TURN, 0, 0)))
    lane = await stranger.dial(BULK)
    stranger.stream = control
    return stranger, lane


def hidden_frame(session: bytes, **changes: Any) -> bytes:
    """A frame of 4 positions for the tail, and its payload."""
    fields: dict[str, Any] = {
        "session": session,
        "stage": 1,
        "epoch": 1,
        "lane": Lane.BULK,
        "hop": 0,
        "rollback": TURN,
        "start": 0,
        "count": 4,
        "payload": bytes(4 * HIDDEN * 4),
    }
    dtype = changes.pop("dtype", Dtype.FLOAT32)
    frame = Frame(**{**fields, **changes})
    return pack_frame(frame, dtype) + frame.payload


async def still_serves(ring: FakeRing) -> None:
    """Another reader's answer is right."""
    model = reference(ring.folder)
    assert await ring.ask(ring.session(), [4, 5, 6], 8) == greedy(model, [4, 5, 6], 8)
