"""Streams to the donors that come next."""

from __future__ import annotations

import asyncio

from core.ring.frames import Frame, Lane
from core.serving.links import MOST_PADDING, Link, LinkEvents, Links
from core.swarm.fake import FakeSwarm
from core.swarm.frames import BULK, Dtype, Kind, read_header
from core.swarm.peer import Stream

BIG = 512 << 10


class Receiver:
    """What arrives on a bulk stream from another peer, which is ``round_trip`` seconds away."""

    def __init__(self, round_trip: float) -> None:
        swarm = FakeSwarm()
        self.ours, self.theirs = swarm.peer(), swarm.peer()
        events = LinkEvents(_ignore, _ignore, _ignore, _ignore)
        self.links = Links(self.ours, events)
        self.links.upload.round_trip = lambda _peer: round_trip
        self.seen: list[tuple[Kind, int]] = []
        self.link: Link

    async def begin(self) -> None:
        await self.theirs.serve(BULK, self._serve)
        self.link = await self.links.open(self.theirs.peer_id, ["/ip4/10.0.0.1/tcp/1"], Lane.BULK)

    async def _serve(self, stream: Stream) -> None:
        while True:
            header = await read_header(stream)
            await stream.read(header.length)
            self.seen.append((header.kind, header.length))

    async def until(self, count: int) -> list[tuple[Kind, int]]:
        async with asyncio.timeout(3):
            while len(self.seen) < count:  # noqa: ASYNC110 - what streams carry comes without a call
                await asyncio.sleep(0.005)
        return self.seen


def _ignore(*_: object) -> None:
    pass


def frame(size: int) -> Frame:
    return Frame(b"s" * 16, 1, 1, Lane.BULK, 0, 0, 0, 1, bytes(size))


async def test_a_long_idle_way_is_warmed_before_a_prompt() -> None:
    """Padding goes once; while the stream is in use there is none."""
    far = Receiver(0.2)
    await far.begin()
    far.link.warm_up(BIG)
    far.link.warm_up(BIG)
    far.link.send(frame(100), Dtype.FLOAT32)
    far.link.warm_up(BIG)
    far.link.send(frame(200), Dtype.FLOAT32)
    assert await far.until(3) == [(Kind.PADDING, MOST_PADDING), (Kind.FRAME, 100), (Kind.FRAME, 200)]
    far.links.close()


async def test_no_padding_where_it_would_not_help() -> None:
    """Near peers, and little to send."""
    near, far = Receiver(0.004), Receiver(0.2)
    for receiver, size in ((near, BIG), (far, 20_000)):
        await receiver.begin()
        receiver.link.warm_up(size)
        receiver.link.send(frame(100), Dtype.FLOAT32)
        assert await receiver.until(1) == [(Kind.FRAME, 100)]
        receiver.links.close()


async def test_padding_is_part_of_what_the_upload_was_measured_with() -> None:
    """Else a link would look slower than it is to who warms it up."""
    far = Receiver(0.2)
    await far.begin()
    sent: list[int] = []
    far.links.upload.sent = lambda _way, _hop, size, _now: sent.append(size)  # type: ignore[method-assign]
    far.link.warm_up(BIG)
    far.link.send(frame(1000), Dtype.FLOAT32)
    await far.until(2)
    far.link.send(frame(1000), Dtype.FLOAT32)
    assert sent == [1000 + MOST_PADDING, 1000]
    far.links.close()
