"""What neighbours send: every frame is checked against its session before its payload is read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from core.errors import FrameError
from core.model.config import ModelConfig
from core.ring.frames import Breach, Frame, Lane
from core.serving.held import Held, Table
from core.serving.outgoing import Outgoing
from core.swarm.frames import HEADER, Dtype, Header, Kind, pack_unknown, pack_word, read_header
from core.swarm.peer import Peer, Stream, StreamClosed

log = logging.getLogger(__name__)

SKIP_LIMIT = 1 << 20
"""A frame for a session that is not here is read over up to this size, else its stream is closed."""


class Incoming:
    """Frames for the parts in ``table``; ``changed`` is called when a step may have become ready."""

    def __init__(self, peer: Peer, config: ModelConfig, table: Table, changed: Callable[[], None]) -> None:
        self.config, self.table = config, table
        self.outgoing = Outgoing(peer, table, deliver=self.deliver, changed=changed)
        self._changed = changed
        self.taken_bytes = 0
        self.enter: Callable[[Held, int], None] = lambda _held, _epoch: None
        """Told of the first frame of an epoch that was opened ahead."""

    async def serve_lane(self, stream: Stream, lane: Lane) -> None:
        """One neighbour's frames, until its stream ends."""
        try:
            while True:
                header = await read_header(stream)
                if header.kind is Kind.PING and not header.length:
                    stream.write(pack_word(Kind.PONG, lane))
                    continue
                if header.kind is not Kind.FRAME or header.lane is not lane:
                    raise FrameError("a neighbour sent what does not belong on this stream")
                await self._frame(stream, header)
        except StreamClosed:
            pass
        except FrameError as error:
            log.warning("a neighbour was cut off: %s", error)

    async def _frame(self, stream: Stream, header: Header) -> None:
        held = self._of(stream, header)
        if held is None or held.previous != stream.remote or header.epoch != held.part.epoch:
            await self._read_over(stream, header)
            if held is None:
                stream.write(pack_unknown(header))
            return
        wrong = self._misfit(held, header)
        if wrong:
            await self._read_over(stream, header)
            self.outgoing.perform(held, held.part.end(Breach.INPUT, wrong))
            return
        await self._meter(stream, header, held)
        payload = await stream.read(header.length)
        self.taken_bytes += header.length + HEADER.size
        held.inbound[header.lane] = stream
        self.deliver(held, header.frame(payload))

    def _of(self, stream: Stream, header: Header) -> Held | None:
        """Whose frame it is; the first of an epoch that was opened ahead begins that."""
        held = self.table.get(header.session, header.stage)
        ahead = held.ahead if held is not None else None
        if held is None or ahead is None or ahead.message.epoch != header.epoch:
            return held
        if ahead.message.previous == stream.remote:
            self.enter(held, header.epoch)
        return self.table.get(header.session, header.stage)

    async def _meter(self, stream: Stream, header: Header, held: Held) -> None:
        """What is not read yet keeps its sender from sending more: so is a download held to a cap."""
        if getattr(stream, "remote_address", "").startswith("/ip4/127."):
            return
        metering, count = self.outgoing.links.metering, HEADER.size + header.length
        if header.lane is Lane.BULK and held.client != metering.owner:
            await metering.takes_bulk(count)
        else:
            metering.takes_step(count)

    async def _read_over(self, stream: Stream, header: Header) -> None:
        if header.length > SKIP_LIMIT:
            raise FrameError(f"a frame of {header.length} bytes for a session that is not here")
        await stream.read(header.length)

    def _misfit(self, held: Held, header: Header) -> str:
        """What is wrong with a frame's header for this session, judged before its payload is read."""
        ids = held.part.stage == 0
        dtype = Dtype.IDS if ids else held.wire
        if held.narrow and not ids and header.lane is Lane.BULK and header.dtype is Dtype.INT8:
            dtype = Dtype.INT8
        width = 1 if ids else self.config.hidden
        if header.dtype is not dtype:
            return f"a frame came in {header.dtype.name.lower()} where {dtype.name.lower()} was agreed"
        if header.count < 1 or header.length != header.count * dtype.row_bytes(width):
            return f"a frame of {header.count} positions came with {header.length} bytes"
        if header.start + header.count > held.max_length:
            return f"position {header.start + header.count} is beyond the session's {held.max_length}"
        return ""

    def deliver(self, held: Held, frame: Frame) -> None:
        """A frame whose header fits: its ids are checked, then the ring takes it."""
        if held.part.stage == 0:
            wrong = self.bad_id(memoryview(frame.payload).cast("i"))
            if wrong:  # on the decode lane it was the tail that drew it
                breach = Breach.INPUT if frame.lane is Lane.DECODE else Breach.NONSENSE
                self.outgoing.perform(held, held.part.end(breach, wrong))
                return
        held.used_at = time.monotonic()
        self.outgoing.perform(held, held.part.receive(frame))
        self._changed()

    def bad_id(self, ids: Sequence[int]) -> str:
        if min(ids) < 0 or max(ids) >= self.config.vocab:
            return f"a token id is outside the vocabulary of {self.config.vocab}"
        return ""
