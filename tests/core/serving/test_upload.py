"""What the frames of prompts tell of this donor's upload."""

from __future__ import annotations

import pytest

from core.serving.upload import (
    GIVEN_UP_SECONDS,
    LEAST_BYTES,
    SUSTAINED_BYTES,
    SUSTAINED_FOR,
    SUSTAINED_TIMES,
    Carried,
    Upload,
    Way,
)
from core.terms import PeerId

ONE = Way(PeerId("one"), b"s" * 16, 1, 1)
OTHER = Way(PeerId("other"), b"t" * 16, 2, 1)
SIZE = 1_000_000


def measured(*times: tuple[float, float]) -> Upload:
    """After frames of 1 MB, each sent and received at these times, one after the other."""
    upload = Upload()
    for hop, (sent, received) in enumerate(times):
        upload.sent(ONE, hop, SIZE, sent)
        upload.received(ONE, hop, received)
    return upload


def test_nothing_is_known_before_anything_was_sent() -> None:
    """Zero is unknown; routes assume something then."""
    assert Upload().rate == 0


def test_bytes_over_the_seconds_until_they_were_received() -> None:
    """The way there and back is no sending."""
    assert measured((10.0, 11.0)).rate == pytest.approx(1e6)
    upload = Upload()
    upload.round_trip = {ONE.remote: 0.2}.get
    upload.sent(ONE, 0, SIZE, 10.0)
    upload.received(ONE, 0, 11.2)
    assert upload.rate == pytest.approx(1e6)


def test_all_streams_share_one_upload() -> None:
    """A busy time lasts until the last frame to anybody has arrived; pauses between them do not count."""
    upload = Upload()
    upload.sent(ONE, 0, SIZE, 10.0)
    upload.sent(OTHER, 0, SIZE, 10.5)
    upload.sent(ONE, 1, SIZE, 10.6)
    upload.received(ONE, 1, 12.0)
    assert upload.rate == 0
    upload.received(OTHER, 0, 13.0)
    assert upload.rate == pytest.approx(1e6)
    assert measured((10.0, 11.0), (20.0, 21.0)).rate == pytest.approx(1e6)


def test_changes_are_followed_a_little_each_time() -> None:
    """One slow transfer does not decide."""
    rate = measured((0.0, 1.0), (2.0, 12.0)).rate
    assert 0.1e6 < rate < 1e6
    assert measured(*((20.0 * n, 20.0 * n + 10.0) for n in range(30))).rate == pytest.approx(1e5)


def test_what_says_little_establishes_nothing() -> None:
    """A short busy time may only show that the upload is faster than was thought."""
    assert measured((10.0, 10.001)).rate == 0
    assert measured((10.0, 11.0), (20.0, 20.01)).rate == pytest.approx(1e8)
    small = Upload()
    small.sent(ONE, 0, LEAST_BYTES - 1, 10.0)
    small.received(ONE, 0, 15.0)
    assert small.rate == 0


def test_lost_frames_are_no_measurement() -> None:
    """A broken stream, a session that is gone, acknowledgements out of nowhere."""
    upload = Upload()
    upload.received(ONE, 5, 9.0)
    upload.sent(ONE, 0, SIZE, 10.0)
    upload.sent(OTHER, 0, SIZE, 10.0)
    upload.lost(ONE.remote)
    upload.received(OTHER, 0, 11.0)
    assert upload.rate == 0
    upload.sent(ONE, 0, SIZE, 20.0)
    upload.sent(OTHER, 1, SIZE, 21.0 + GIVEN_UP_SECONDS)
    upload.received(OTHER, 1, 22.0 + GIVEN_UP_SECONDS)
    assert upload.rate == pytest.approx(1e6)


def test_time_without_anything_on_the_wire_is_no_sending() -> None:
    """The receiver was frozen, or its link cut: that says nothing of this upload."""
    upload = Upload()
    upload.carried(Carried(0, 5.0, True, 9.0))
    upload.sent(ONE, 0, SIZE, 10.0)
    upload.carried(Carried(0, 0.5, True, 10.2))
    for second in (12.0, 12.5, 13.0):
        upload.carried(Carried(0, 0.5, True, second))
    upload.received(ONE, 0, 13.7)
    assert upload.rate == pytest.approx(SIZE / 2.0)
    upload.sent(ONE, 1, SIZE, 20.0)
    upload.received(ONE, 1, 21.0)
    assert upload.rate > SIZE / 2.0


def test_the_best_stretch_of_a_busy_time_tells_what_the_link_carries() -> None:
    """TCP began slowly, then the next stage's window was full; what was on the wire before does not count."""
    upload = Upload()
    upload.carried(Carried(9 * SIZE, 0.5, False, 9.9))
    upload.sent(ONE, 0, 3 * SIZE, 10.0)
    upload.carried(Carried(9 * SIZE, 0.5, False, 10.1))
    for second, arrived in ((10.6, 0.1), (11.1, 1.0), (11.6, 1.0), (12.1, 0.5), (13.1, 0.4)):
        upload.carried(Carried(int(arrived * SIZE), 0.5, False, second))
    upload.received(ONE, 0, 14.0)
    assert upload.rate == pytest.approx(2 * SIZE)
    assert upload.cap_base(15.0) == pytest.approx(2 * SIZE)
    upload.sent(ONE, 1, SIZE, 20.0)
    upload.received(ONE, 1, 22.0)
    assert upload.rate < 2 * SIZE


@pytest.mark.parametrize("held_up", [False, True])
def test_a_link_that_has_become_slower_is_known_while_a_prompt_is_sent(held_up: bool) -> None:
    """Within seconds of sending all the time; not while a cap holds it up, or the other end is frozen."""
    upload = measured((10.0, 14.0), (15.0, 15.5))
    fast = upload.rate
    upload.sent(ONE, 2, 60 * SIZE, 20.0)
    if held_up:
        upload.held_up()
    for quarter in range(1, 12):
        upload.carried(Carried(25_000, 0.25, quarter == 5, 20.0 + quarter / 4))
    assert upload.rate == fast
    for quarter in range(12, 26):
        upload.carried(Carried(25_000, 0.25, False, 20.0 + quarter / 4))
    assert upload.rate == pytest.approx(fast if held_up else max(1e5, fast / 16))
    assert upload.sustained == pytest.approx(2.5e5 if held_up else upload.rate)


def test_more_than_was_thought_is_believed_at_once() -> None:
    """So much did arrive."""
    assert measured((0.0, 10.0), (20.0, 21.0)).rate == pytest.approx(1e6)


def test_a_short_measurement_is_soon_made_anew() -> None:
    """It may be far below what the link carries, and half of it would be the cap."""
    short, long = measured((10.0, 12.0)), measured((10.0, 25.0))
    assert short.cap_base(12.0 + 2 * SUSTAINED_TIMES) and not short.cap_base(13.0 + 2 * SUSTAINED_TIMES)
    assert long.cap_base(25.0 + SUSTAINED_FOR) and not long.cap_base(26.0 + SUSTAINED_FOR)


def test_what_a_cap_is_a_part_of_is_measured_anew_now_and_then() -> None:
    """What the cap held up could show no more than the cap."""
    upload = measured((10.0, 12.0))
    assert upload.cap_base(13.0) == pytest.approx(5e5)
    assert upload.cap_base(13.0 + SUSTAINED_FOR) == 0
    small = Upload()
    small.sent(ONE, 0, SUSTAINED_BYTES - 1, 10.0)
    small.received(ONE, 0, 15.0)
    assert small.cap_base(15.0) == 0


def test_a_burst_is_no_base_for_a_cap() -> None:
    """Only what was sent for seconds on end says what a link can carry; less since then does not lower it."""
    assert measured((10.0, 11.0)).sustained == 0
    assert measured((10.0, 12.0)).sustained == pytest.approx(5e5)
    assert measured((10.0, 12.0), (20.0, 24.0)).sustained == pytest.approx(5e5)


def test_a_link_that_has_become_slower_is_given_less() -> None:
    """By what arrived before it stood still under what it was given; where nothing did, that says nothing:
    who is frozen is not slow."""
    fast = measured((10.0, 10.5))
    fast.sent(ONE, 1, SIZE, 20.0)
    fast.stuck(ONE.remote, 25.0)
    assert fast.rate == pytest.approx(2e6)
    fast.sent(ONE, 2, SIZE, 30.0)
    fast.sent(ONE, 3, SIZE, 30.0)
    fast.stuck(OTHER.remote, 31.0)
    fast.received(ONE, 2, 32.0)
    fast.stuck(ONE.remote, 32.5)
    assert fast.rate == pytest.approx(4e5)
    for hop, at in ((4, 40.0), (6, 80.0)):
        fast.sent(ONE, hop, SIZE, at)
        fast.sent(ONE, hop + 1, SIZE, at)
        fast.received(ONE, hop, at + 29.0)
        fast.stuck(ONE.remote, at + 29.0)
        assert fast.rate == pytest.approx(SIZE / 29)
    fast.sent(ONE, 8, SIZE, 120.0)
    fast.received(ONE, 8, 121.0)
    assert fast.rate > SIZE / 29
