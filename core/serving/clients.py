"""What clients say on their control streams: one client a stream, whose peer id is authenticated."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from core.errors import FrameError
from core.model.sampling import History
from core.ring.frames import Breach, Frame, Grant, Lane, Reserve, Resume, Truncate, Turn
from core.serving.held import Held
from core.serving.incoming import Incoming
from core.serving.opening import Opening
from core.serving.propose import NgramProposer
from core.swarm.codec import pack, receive
from core.swarm.frames import pack_ids
from core.swarm.messages import Close, Copy, Heard, Lease, Message, Open, Probe, Pulse, Standby
from core.swarm.peer import Stream, StreamClosed

log = logging.getLogger(__name__)


class Clients:
    """``changed`` is called when a step may have become ready; ``speculate`` lets tails propose."""

    def __init__(
        self, incoming: Incoming, opening: Opening, *, changed: Callable[[], None], speculate: bool
    ) -> None:
        self.incoming, self.opening, self.speculate = incoming, opening, speculate
        self.outgoing, self.places, self.table = opening.outgoing, opening.places, opening.table
        self.conversations = 0
        """Begun here, as far as this donor was the tail."""
        self._changed = changed

    async def serve_control(self, stream: Stream) -> None:
        """One client's messages, until its stream ends. A bad message ends the stream, no more."""
        try:
            while True:
                self._message(stream, await receive(stream))
                self._changed()
        except StreamClosed:
            pass
        except FrameError as error:
            log.warning("a client was cut off: %s", error)

    def _message(self, stream: Stream, message: Message) -> None:
        self.places.heard(stream.remote)
        if isinstance(message, Open):
            self.opening.open_soon(stream, message)
            return
        if isinstance(message, Lease):
            self.places.unpark(stream.remote)
            with suppress(StreamClosed):
                stream.write(pack(Heard(message.number)))
            return
        if isinstance(message, Probe):
            self._tell_pulse(stream, message)
            return
        if isinstance(message, Heard):
            raise FrameError("a client sent what only donors say")
        for held in self.table.of(stream.remote, message.session):
            self.opening.enter(held, getattr(message, "epoch", -1))
        for held in self.table.of(stream.remote, message.session):
            held.control = stream
            held.parked = False
            held.used_at = time.monotonic()
            self._for_part(held, message)

    def _tell_pulse(self, stream: Stream, probe: Probe) -> None:
        for held in self.table.of(stream.remote, probe.session):
            part = held.part
            if part.epoch == probe.epoch and not part.broken:
                running = part.running is not None
                pulse = Pulse(
                    session=probe.session,
                    stage=part.stage,
                    epoch=part.epoch,
                    number=probe.number,
                    length=part.length,
                    ran=part.ran,
                    rollback=part.rollback,
                    running=running,
                )
                self.outgoing.tell(held, pulse)

    def _for_part(self, held: Held, message: Message) -> None:
        part = held.part
        match message:
            case Frame():
                self._prompt(held, message)
            case Turn():
                self._turn(held, message)
            case Resume():
                self._resume(held, message)
            case Reserve():
                self.outgoing.perform(held, part.set_aside(message))
            case Grant():
                self.outgoing.perform(held, part.grant(message))
            case Truncate():
                self.outgoing.perform(held, part.truncate(message))
            case Copy() if message.epoch == part.epoch:
                self.opening.copy_soon(held, message)
            case Copy():
                pass
            case Standby() if message.epoch == part.epoch:
                self.opening.warm_soon(held, message.record)
            case Standby():
                pass
            case Close():
                self.places.free(held)
            case _:
                raise FrameError(f"a client sent a {type(message).__name__}")

    def _prompt(self, held: Held, frame: Frame) -> None:
        if held.part.stage != 0:
            return
        if frame.start + frame.count > held.max_length:
            self.outgoing.perform(
                held, held.part.end(Breach.POSITION, f"the prompt is longer than {held.max_length} tokens")
            )
            return
        coded = replace(frame, lane=Lane.BULK, payload=pack_ids(frame.payload))
        self.incoming.deliver(held, coded)

    def _turn(self, held: Held, turn: Turn) -> None:
        if not held.part.is_tail:
            return
        wrong = self.incoming.bad_id(turn.ids)
        before = held.history.ids[: turn.start] if held.history is not None else []
        if not wrong and len(before) < turn.start:
            wrong = f"a turn begins at {turn.start} where {len(before)} tokens are known"
        if not wrong and not 0 <= turn.answer_from <= turn.end:
            wrong = f"an answer cannot begin at {turn.answer_from}"
        if wrong:
            self.outgoing.perform(held, held.part.end(Breach.NONSENSE, wrong))
            return
        actions = held.part.begin(turn)
        if held.part.turn is turn:
            held.history = History([*before, *turn.ids], turn.answer_from)
            if self.speculate:
                held.part.proposer = NgramProposer(held.history.ids)
            self.conversations += turn.start == 0
        self.outgoing.perform(held, actions)

    def _resume(self, held: Held, resume: Resume) -> None:
        """All stages of the epoch are open: what is left of the session from before has no place."""
        self.outgoing.perform(held, held.part.resume(resume))
        for other in self.table.of(held.client, resume.session):
            if other.part.epoch < resume.epoch:
                self.places.free(other)
