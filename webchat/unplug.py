"""Unplug a donor of the demo, in the middle of an answer: ``POST /api/demo/unplug``.

A spare starts first. When it serves, the next answer that has come to some tokens loses the donor that it
runs over, as if its plug were pulled, and goes on over the spare.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Protocol

from flask import Blueprint, Response, jsonify

from core.terms import PeerId
from webchat.door import check_owner
from webchat.refusals import Refusal

AFTER_PIECES = 4


class Demo(Protocol):
    def start_spare(self) -> None:
        """Returns when a second donor serves the layers of one that is there."""
        ...

    def unplug(self, route: Collection[PeerId]) -> PeerId | None:
        """Ends, at once, the donor on the route that has a spare; ``None`` where there is none."""
        ...


class Unplugging:
    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        self._starting = threading.Lock()
        self.armed = False

    def arm(self) -> None:
        if not self._starting.acquire(blocking=False):
            raise Refusal(409, "a spare is starting already", "Wait a moment.")
        try:
            if not self.armed:
                self._demo.start_spare()
                self.armed = True
        finally:
            self._starting.release()

    def grown(self, pieces: int, route: Collection[PeerId]) -> PeerId | None:
        """An answer has come to so many pieces; the donor that it has just lost."""
        if not self.armed or pieces < AFTER_PIECES:
            return None
        self.armed = False
        return self._demo.unplug(route)


def blueprint(unplugging: Unplugging) -> Blueprint:
    demo = Blueprint("demo", __name__)
    demo.before_request(check_owner)

    @demo.post("/api/demo/unplug")
    def unplug() -> Response:
        unplugging.arm()
        return jsonify(armed=True)

    return demo
