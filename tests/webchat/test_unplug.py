from __future__ import annotations

import threading

import pytest
from flask.testing import FlaskClient

from core.terms import PeerId
from tests.webchat.conftest import HOME
from tests.webchat.offers import FakeDemo
from webchat.app import create_app
from webchat.door import Door
from webchat.fake import PEERS, FakeReader
from webchat.refusals import Refusal
from webchat.unplug import AFTER_PIECES, Unplugging


def test_the_plug_is_pulled_in_the_middle_of_an_answer() -> None:
    """Once, and only after a spare has been asked for."""
    demo = FakeDemo()
    unplugging = Unplugging(demo)
    assert unplugging.grown(AFTER_PIECES, PEERS) is None
    unplugging.arm()
    assert unplugging.grown(AFTER_PIECES - 1, PEERS) is None
    assert unplugging.grown(AFTER_PIECES, PEERS) == PEERS[1]
    assert unplugging.grown(AFTER_PIECES, PEERS) is None
    assert (demo.spares, demo.unplugged) == (1, [PEERS[1]])


def test_one_spare_starts_at_a_time() -> None:
    """A second press meanwhile is told so; a spare that waits for its answer is enough."""
    begun, may = threading.Event(), threading.Event()

    class Slow(FakeDemo):
        def start_spare(self) -> None:
            super().start_spare()
            begun.set()
            may.wait(5)

    demo = Slow()
    unplugging = Unplugging(demo)
    first = threading.Thread(target=unplugging.arm)
    first.start()
    begun.wait(5)
    with pytest.raises(Refusal, match="starting already"):
        unplugging.arm()
    may.set()
    first.join()
    unplugging.arm()
    assert demo.spares == 1


def test_only_the_owner_unplugs_and_only_in_the_demo(reader: FakeReader, door: Door) -> None:
    """Elsewhere there is no such address."""
    demo = FakeDemo()
    client = create_app(reader, door, demo=demo).test_client()
    assert client.post("/api/demo/unplug", base_url=HOME).status_code == 401
    token = {"Authorization": f"Bearer {door.token}"}
    assert client.post("/api/demo/unplug", base_url=HOME, headers=token).get_json() == {"armed": True}
    assert demo.spares == 1
    without: FlaskClient = create_app(reader, door).test_client()
    assert without.post("/api/demo/unplug", base_url=HOME, headers=token).status_code == 404


def test_a_donor_without_a_spare_stays(reader: FakeReader) -> None:
    """A route that does not touch the pair loses nobody."""

    class Elsewhere(FakeDemo):
        def unplug(self, route: object) -> PeerId | None:
            return None

    unplugging = Unplugging(Elsewhere())
    unplugging.arm()
    assert unplugging.grown(9, PEERS) is None
