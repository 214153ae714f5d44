"""A worker's bytes under the owner's caps."""

from __future__ import annotations

import asyncio
import time

import pytest

from core.meter import BYTES_A_MBIT, Caps
from core.serving.metering import LARGEST_PIECE, SMALLEST_PIECE, Metering, on_this_pc
from core.serving.upload import Upload, Way
from core.terms import PeerId


def test_without_a_cap_half_of_what_was_measured_is_used() -> None:
    """Nothing is held up before anything was measured; a cap of the owner's counts instead."""
    measured = 0.0
    metering = Metering(lambda: measured)
    metering.hold(Caps())
    assert metering.up.limit.rate is None and metering.down.limit.rate is None
    measured = 2e6
    metering.hold(Caps())
    assert metering.up.limit.rate == 1e6
    metering.hold(Caps(upload=40, download=10))
    assert metering.up.limit.rate == 40 * BYTES_A_MBIT
    assert metering.down.limit.rate == 10 * BYTES_A_MBIT


@pytest.mark.parametrize(
    ("mbit", "piece"), [(0.1, SMALLEST_PIECE), (10, 25_000), (1000, LARGEST_PIECE), (None, LARGEST_PIECE)]
)
def test_a_low_cap_makes_small_pieces(mbit: float | None, piece: int) -> None:
    """A step of an answer never stands behind much of a prompt."""
    metering = Metering()
    metering.hold(Caps(upload=mbit))
    assert metering.piece == piece


async def test_prompts_wait_and_answers_do_not() -> None:
    """Under the same cap, at the same moment, in both directions."""
    metering = Metering()
    metering.hold(Caps(upload=0.1, download=0.1))
    for passes, takes in (
        (metering.sends_step, metering.sends_bulk),
        (metering.takes_step, metering.takes_bulk),
    ):
        began = time.monotonic()
        passes(100_000)
        assert time.monotonic() - began < 0.1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(takes(1), 0.2)


async def test_where_answers_use_up_a_cap_no_session_is_added() -> None:
    """And again when they have gone."""
    metering = Metering()
    metering.hold(Caps(upload=1))
    assert not metering.crowded
    for _ in range(20):
        metering.sends_step(BYTES_A_MBIT)
        await metering.look(1.0)
    assert metering.crowded
    for _ in range(20):
        await metering.look(1.0)
    assert not metering.crowded


def test_what_a_cap_held_up_is_no_measurement_of_the_upload() -> None:
    """Else half of it would be taken, and half of that, until nothing is left."""
    upload, way = Upload(), Way(PeerId("next"), b"s" * 16, 1, 1)
    upload.sent(way, 1, 1_000_000, 0.0)
    upload.held_up()
    upload.received(way, 1, 10.0)
    assert upload.rate == 0.0
    upload.sent(way, 2, 1_000_000, 20.0)
    upload.received(way, 2, 21.0)
    assert upload.rate == pytest.approx(1e6)


def test_what_stays_on_this_pc_is_known_by_its_addresses() -> None:
    """One address beyond loopback is enough to be elsewhere."""
    assert on_this_pc(["/ip4/127.0.0.1/tcp/1/p2p/x"])
    assert not on_this_pc(["/ip4/127.0.0.1/tcp/1/p2p/x", "/ip4/192.168.1.7/tcp/1/p2p/x"])
    assert not on_this_pc([])
