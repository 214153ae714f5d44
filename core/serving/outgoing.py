"""What leaves a donor: frames for the next stage, acknowledgements for the one before, words for clients;
and what the streams to the next stages tell of how that went.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from core.ring.frames import Ack, Action, Breach, Broken, Drawn, Frame, Lane, Reserved
from core.serving.held import Held, Table
from core.serving.links import LinkEvents, Links
from core.swarm.codec import pack
from core.swarm.frames import HEADER, Dtype, Header, pack_ack, pack_ids
from core.swarm.messages import Message
from core.swarm.peer import Peer, StreamClosed
from core.terms import PeerId

log = logging.getLogger(__name__)

ACK_SECONDS = 0.02
"""How long an acknowledgement may wait for others of its session to go with it."""


class Outgoing:
    """Carries out what the parts in ``table`` decide. ``deliver`` takes a frame whose receiver is another
    part here; ``changed`` is called when a step may have become ready."""

    def __init__(
        self,
        peer: Peer,
        table: Table,
        *,
        deliver: Callable[[Held, Frame], None],
        changed: Callable[[], None],
    ) -> None:
        self.table, self.deliver = table, deliver
        self._me, self._changed = peer.peer_id, changed
        self.sent_bytes = 0
        self._flush: asyncio.TimerHandle | None = None
        self.links = Links(
            peer, LinkEvents(self._acknowledged, self._unknown, self._redialled, self._unreachable)
        )

    def perform(self, held: Held, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Frame():
                    self._forward(held, action)
                case Ack():
                    self._acknowledge(held, action)
                case Drawn() | Reserved() | Broken():
                    self.tell(held, action)

    def _forward(self, held: Held, frame: Frame) -> None:
        dtype = held.dtype_of(len(frame.payload) // frame.count, frame.lane)
        if held.part.is_tail:
            dtype = Dtype.IDS
            frame = replace(frame, payload=pack_ids(frame.payload))
        if frame.epoch != held.part.epoch:
            if held.copying is not None:
                self.sent_bytes += HEADER.size + len(frame.payload)
                held.copying.send(frame, dtype)
            return
        if held.following != self._me:
            self.sent_bytes += HEADER.size + len(frame.payload)
            held.links[frame.lane].send(frame, dtype, own=held.client == self.links.metering.owner)
            return
        target = self.table.get(frame.session, frame.stage)
        if target is not None:
            asyncio.get_running_loop().call_soon(self.deliver, target, frame)

    def _acknowledge(self, held: Held, ack: Ack) -> None:
        """Chunks are acknowledged at once when they were run, since the sender's window waits for
        it; the rest a little later, together."""
        if ack.lane is Lane.BULK and ack.run != held.bulk_run:
            held.bulk_run = ack.run
            held.owed.discard(Lane.BULK)
            self._send_ack(held, ack)
            return
        held.owed.add(ack.lane)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(ACK_SECONDS, self._flush_acks)

    def _flush_acks(self) -> None:
        self._flush = None
        for held in self.table:
            for lane in held.owed:
                self._send_ack(held, held.part.acknowledgement(lane))
            held.owed.clear()

    def _send_ack(self, held: Held, ack: Ack) -> None:
        if held.part.stage == 0 and ack.lane is Lane.BULK:
            self.tell(held, ack)
        elif held.previous == self._me:
            sender = self.table.get(ack.session, (ack.stage - 1) % held.part.stages)
            if sender is not None:
                self.perform(sender, sender.part.acknowledge(ack))
        elif (stream := held.inbound.get(ack.lane)) is not None:
            with suppress(StreamClosed):
                stream.write(pack_ack(ack))

    def tell(self, held: Held, message: Message) -> None:
        if isinstance(message, Broken):
            log.info("a session ended: %s", message.why)
        said = pack(message)
        self.sent_bytes += len(said)
        with suppress(StreamClosed):  # a client that is gone misses nothing: its lease runs out
            held.control.write(said)

    # What links tell

    def _acknowledged(self, remote: PeerId, ack: Ack) -> None:
        for held in self.table.senders(remote, ack.session):
            if held.part.next_stage == ack.stage:
                self.perform(held, held.part.acknowledge(ack))
        self._changed()

    def _unknown(self, remote: PeerId, header: Header) -> None:
        for held in self.table.senders(remote, header.session):
            if held.part.next_stage == header.stage and held.part.epoch == header.epoch:
                why = "the next stage does not know the session"
                self.perform(held, held.part.end(Breach.UNREACHABLE, why))

    def _redialled(self, remote: PeerId, lane: Lane) -> None:
        for held in self.table.senders(remote):
            if held.following == remote and lane in held.links:
                self.perform(held, held.part.again(lane))

    def _unreachable(self, remote: PeerId, lane: Lane, why: str) -> None:
        for held in self.table.senders(remote):
            if held.following == remote and lane in held.links:
                self.perform(held, held.part.end(Breach.UNREACHABLE, why[:300]))
