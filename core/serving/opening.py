"""Who may open a session here, and how it begins: checked, its next stage dialled, its cache set aside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress

from core.errors import Refused, SwarmError
from core.model.cache import Slot
from core.model.config import ModelConfig
from core.ring.frames import Breach, Lane, turn_of
from core.ring.part import Part
from core.serving.dials import Dials
from core.serving.held import Ahead, Held, Table
from core.serving.links import Link
from core.serving.outgoing import Outgoing
from core.serving.places import Places
from core.swarm.codec import pack
from core.swarm.frames import WIRE
from core.swarm.messages import Copy, Message, Open, Ready, Refuse
from core.swarm.peer import Peer, Silent, Stream, StreamClosed
from core.swarm.records import open_sealed
from core.terms import PeerId, Record, Span, WireDtype

TASKS = 64
"""Openings, standbys and copies that may be under way for one client at once."""


class Opening:
    """Of sessions in ``table``, for the layers ``span``. While ``leaving`` all are refused."""

    def __init__(
        self,
        peer: Peer,
        config: ModelConfig,
        span: Span,
        wires: Sequence[WireDtype],
        places: Places,
    ) -> None:
        self.peer, self.config, self.span, self.wires = peer, config, span, tuple(wires)
        self.places: Places = places
        self.table: Table = places.table
        self.outgoing: Outgoing = places.outgoing
        self.leaving = False
        self.only: PeerId | None = None
        """The one client whose sessions are taken; ``None``: anyone's."""
        self._tasks: dict[asyncio.Task[None], PeerId] = {}
        self._dials = Dials()

    def open_soon(self, stream: Stream, message: Open) -> None:
        """In a task of its own, since it may dial; the stream's other messages go on."""
        if self._busy(stream.remote):
            why = "it is opening as many sessions for you as it can"
            with suppress(StreamClosed):
                stream.write(pack(Refuse(message.session, message.stage, message.epoch, "full", why)))
            return
        self._in_task(stream.remote, self._open(stream, message))

    def copy_soon(self, held: Held, wanted: Copy) -> None:
        """Fills a replacement of the next stage while that still serves."""
        if not self._busy(held.client):
            self._in_task(held.client, self._copy(held, wanted))

    def warm_soon(self, held: Held, sealed: bytes) -> None:
        """Keeps streams open to a standby of the next stage."""
        if not self._busy(held.client):
            self._in_task(held.client, self._warm(held, sealed))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _busy(self, client: PeerId) -> bool:
        """Whether as much is being opened for this client as may be at once."""
        return sum(client == other for other in self._tasks.values()) >= TASKS

    def _in_task(self, client: PeerId, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = client
        task.add_done_callback(self._tasks.pop)

    async def _open(self, stream: Stream, message: Open) -> None:
        answer: Message
        try:
            record = self._admit(stream.remote, message)
            links = await self._dial(stream.remote, message, record)
        except Refused as refusal:
            answer = Refuse(message.session, message.stage, message.epoch, refusal.kind, refusal.why[:300])
        else:
            answer = self._wait_for(stream, message, links) or self._take(stream, message, links)
        with suppress(StreamClosed):
            stream.write(pack(answer))

    def _admit(self, client: PeerId, message: Open) -> Record | None:
        """Checks that this donor can be that stage; returns the record of the next one, unless that
        is this peer itself."""
        me = self.peer.peer_id
        held = self.table.get(message.session, message.stage)
        if self.leaving:
            raise Refused(me, "leaving", "it is leaving")
        if self.only is not None and client != self.only:
            raise Refused(me, "leaving", "it serves its owner alone now")
        if held is None and self.outgoing.links.metering.crowded:
            raise Refused(me, "full", "its owner's cap on traffic is used up by others")
        if held is not None and held.client != client:
            raise Refused(me, "bad", "that session is another client's")
        if (message.model_id, message.revision) != (self.config.model_id, self.config.revision):
            raise Refused(me, "model", f"it serves {self.config.model_id} at {self.config.revision[:12]}")
        if message.span not in self.span or message.stage >= message.stages:
            raise Refused(me, "span", f"it serves layers {self.span.start} to {self.span.end - 1}")
        if (message.stage == 0) != (message.span.start == 0) or (message.stage == message.stages - 1) != (
            message.span.end == self.config.layers
        ):
            raise Refused(me, "span", "the first stage begins with words in, the last ends with words out")
        if message.wire not in self.wires or message.wire not in WIRE:
            raise Refused(me, "wire", f"it does not speak {message.wire}")
        if message.narrow and WireDtype.INT8 not in self.wires:
            raise Refused(me, "wire", "it does not take prompts in int8")
        if message.max_length > self.config.max_length:
            raise Refused(me, "bad", f"the model holds {self.config.max_length} tokens")
        return self._next_record(message)

    def _next_record(self, message: Open) -> Record | None:
        if not message.following:
            return None
        try:
            return open_sealed(message.following, time.time())
        except SwarmError as error:
            raise Refused(
                self.peer.peer_id, "bad", f"the next stage's record is not right: {error}"
            ) from error

    async def _dial(self, client: PeerId, message: Open, following: Record | None) -> dict[Lane, Link]:
        if following is None or following.peer_id == self.peer.peer_id:
            return {}
        tail = message.stage == message.stages - 1
        try:
            self._check_dial(client, following)
        except SwarmError as error:
            raise Refused(self.peer.peer_id, "bad", str(error)) from error
        try:
            lanes = (Lane.DECODE,) if tail else (Lane.DECODE, Lane.BULK)
            return await self._dial_lanes(following, lanes)
        except Silent as error:
            raise Refused(self.peer.peer_id, "silent", str(error)) from error
        except SwarmError as error:
            raise Refused(self.peer.peer_id, "unreachable", str(error)) from error

    def _check_dial(self, client: PeerId, record: Record) -> None:
        """Only donors of the same model are dialled, and not ever new ones."""
        if (record.model.model_id, record.model.revision) != (self.config.model_id, self.config.revision):
            raise SwarmError("the next stage's record is of another model")
        if not self._dials.allow(client, record.peer_id, time.monotonic()):
            raise SwarmError("you have named too many peers to dial within a minute")

    async def _dial_lanes(self, record: Record, lanes: Sequence[Lane]) -> dict[Lane, Link]:
        links: dict[Lane, Link] = {}
        try:
            for lane in lanes:
                links[lane] = await self.outgoing.links.open(record.peer_id, record.addresses, lane)
        except SwarmError:
            self.places.release(links)
            raise
        return links

    def _wait_for(self, stream: Stream, message: Open, links: dict[Lane, Link]) -> Message | None:
        """Has an opening wait that was asked for ahead, for the part that it will take over from; ``None``
        where it need not."""
        before = self._same_layers(stream.remote, message) if message.ahead else None
        if before is None or before.part.stage != message.stage:
            return None
        if before.ahead is not None:
            self.places.release(before.ahead.links)
        before.ahead = Ahead(stream, message, links)
        return Ready(message.session, message.stage, message.epoch, before.part.standing)

    def enter(self, held: Held, epoch: int) -> None:
        """Something of this epoch has come: if it was opened ahead, it begins."""
        ahead = held.ahead
        if ahead is not None and ahead.message.epoch == epoch:
            held.ahead = None
            self._take(ahead.control, ahead.message, ahead.links)

    def _take(self, stream: Stream, message: Open, links: dict[Lane, Link]) -> Message:
        """The session is this donor's from here on, in the epoch of the message."""
        here = self.table.get(message.session, message.stage)
        if here is not None and here.client != stream.remote:  # another was quicker while this one dialled
            self.places.release(links)
            why = "that session is another client's"
            return Refuse(message.session, message.stage, message.epoch, "bad", why)
        if here is not None and here.part.epoch >= message.epoch:
            self.places.release(links)
            return Ready(message.session, message.stage, here.part.epoch, here.part.standing)
        before = self._same_layers(stream.remote, message)
        slot = before.slot if before is not None else self.places.slot(stream.remote)
        if slot is None:
            self.places.release(links)
            return Refuse(message.session, message.stage, message.epoch, "full", "all its places are taken")
        following = next(iter(links.values())).remote if links else self.peer.peer_id
        part = self._part(message, slot, before.part if before is not None else None, following)
        if before is not None:
            self._supersede(before)
        else:
            self._share(stream.remote, message, slot, part)
        if here is not None and here is not before:
            self.places.free(here)
        loopback = bool(links) and all(
            address.startswith("/ip4/127.") for link in links.values() for address in link.addresses
        )
        now = time.monotonic()
        self.table.put(
            Held(
                client=stream.remote,
                control=stream,
                part=part,
                slot=slot,
                span=message.span,
                wire=WIRE[message.wire],
                narrow=message.narrow,
                max_length=message.max_length,
                previous=message.previous,
                following=following,
                on_this_pc=loopback,
                links=links,
                opened_at=before.opened_at if before is not None else now,
                used_at=now,
                history=before.history if before is not None else None,
                hidden=self.config.hidden,
            )
        )
        return Ready(message.session, message.stage, message.epoch, part.standing)

    def _share(self, client: PeerId, message: Open, slot: Slot, part: Part) -> None:
        """Copies what another session of this client has run of the same tokens, as far as it is still here
        and no later turn may have changed it. Never another client's: its cache may be poisoned."""
        for held in self.table.of(client, message.source) if message.source else ():
            its = held.part
            upto = min(message.shared, its.ran)
            same = (held.span, held.wire, held.narrow) == (message.span, WIRE[message.wire], message.narrow)
            # One that is being filled may lag behind what its client knows to be wrong.
            if same and upto > 0 and turn_of(its.rollback) == message.source_rollback and not its.is_silent:
                if self.places.pool.copy(held.slot, slot, upto):
                    part.adopt(its, upto)
                return

    def _supersede(self, before: Held) -> None:
        """A part of an earlier epoch ends; its cache and its log go on in the next."""
        before.part.end(Breach.LAPSED, "a new epoch has begun")
        self.places.let_go(before)
        self.table.remove(before)

    def _same_layers(self, client: PeerId, message: Open) -> Held | None:
        """The session's part from an earlier epoch that held the same layers, perhaps as another stage:
        the route has changed around it."""
        for held in self.table.of(client, message.session):
            if held.span == message.span and held.part.epoch < message.epoch:
                return held
        return None

    def _part(self, message: Open, slot: Slot, before: Part | None, following: PeerId) -> Part:
        def reserve(upto: int) -> bool:
            return upto <= message.max_length and self.places.reserve(slot, upto)

        return Part(
            message.session,
            message.stage,
            message.stages,
            message.epoch,
            reserve,
            rollback=message.rollback,
            before=before,
            way=lambda: self.outgoing.links.upload.on_the_way(following),
        )

    async def _copy(self, held: Held, wanted: Copy) -> None:
        """Fills a replacement of the next stage; one that cannot be reached stays empty, which the
        client sees when it asks it. The stream for its steps is opened ahead, too."""
        with suppress(SwarmError):
            record = open_sealed(wanted.record, time.time())
            self.warm_soon(held, wanted.record)
            self._check_dial(held.client, record)
            link = await self.outgoing.links.open(record.peer_id, record.addresses, Lane.BULK)
            if held.freed or held.part.epoch != wanted.epoch:
                self.places.release({Lane.BULK: link})
                return
            if held.copying is not None:
                self.places.release({Lane.BULK: held.copying})
            held.copying = link
            self.outgoing.perform(held, held.part.copy(wanted.into))

    async def _warm(self, held: Held, sealed: bytes) -> None:
        """Keeps streams open to a standby; that it cannot be reached is noticed when it is needed."""
        with suppress(SwarmError):
            record = open_sealed(sealed, time.time())
            self._check_dial(held.client, record)
            links = await self._dial_lanes(record, (Lane.DECODE, Lane.BULK))
            self.places.release({link.lane: link for link in held.standby})
            held.standby = list(links.values())
            if held.freed:
                self.places.release(links)
