"""Telling the swarm what a worker of this PC will serve, before it is there: its layers are being fetched.

Others then go elsewhere instead of fetching the same.
"""

from __future__ import annotations

import time

from core.swarm.identity import Identity
from core.swarm.peer import Directory
from core.swarm.watch import Announcer
from core.terms import DonorState, ModelRef, Record, Span, WireDtype


class Herald:
    """Announces *joining* for the worker whose key is ``identity`` until the worker does so itself
    (``end``), or it comes to nothing (``withdraw``). Belongs to one loop."""

    def __init__(self, directory: Directory, identity: Identity, model: ModelRef) -> None:
        self._me, self._model = identity.peer_id, model
        self._announcer = Announcer(directory, signer=identity)
        self._began: float | None = None

    def tell(
        self, span: Span, seconds_left: float, *, room: int, quantization: str, device: str, wire: str
    ) -> None:
        """From now on, and anew whenever it is called."""
        now = time.time()
        self._began = now if self._began is None else self._began
        self._announcer.update(
            Record(
                self._me,
                self._model,
                span,
                DonorState.JOINING,
                self._began,
                now + 90,
                quantization=quantization,
                device=device,
                expected_online=now - self._began + seconds_left,
                room=room,
                wire=(WireDtype(wire),),
            )
        )

    async def end(self) -> None:
        """The worker speaks for itself now."""
        self._began = None
        await self._announcer.end()

    async def withdraw(self) -> None:
        """It will not serve them. Raises ``SwarmError`` if nobody took that."""
        if self._began is not None:
            self._began = None
            await self._announcer.withdraw()
