from __future__ import annotations

import pytest

from core.meter import BURST_SECONDS, Bucket


def pass_through(bucket: Bucket, *, size: int, seconds: float) -> int:
    """How many bytes pass when whoever asks waits as told and is otherwise infinitely fast."""
    now, passed = 0.0, 0
    while now < seconds:
        passed += size
        now += bucket.take(size, now)
    return passed


@pytest.mark.parametrize("size", [1_000, 65_536])
@pytest.mark.parametrize("rate", [250_000, 6_250_000])
def test_holds_the_rate(rate: int, size: int) -> None:
    """Over 30 s no more passes than the rate and one burst, and no less than the rate."""
    seconds = 30
    passed = pass_through(Bucket(rate), size=size, seconds=seconds)
    assert rate * seconds <= passed <= rate * (seconds + BURST_SECONDS) + size


def test_idle_time_is_not_saved_up() -> None:
    """After a pause of any length no more than one burst comes at once."""
    bucket = Bucket(1000)
    bucket.take(1, 0.0)
    assert bucket.take(1000, 3600.0) == pytest.approx(1 - BURST_SECONDS)


def test_without_a_rate_nothing_waits() -> None:
    """No limit means no wait, and a limit set later holds from then on, without a debt of before."""
    bucket = Bucket()
    assert bucket.take(10**12, 0.0) == 0
    bucket.rate = 1000
    assert bucket.take(250, 1.0) == 0
    assert bucket.take(500, 1.0) == pytest.approx(0.5)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Time that runs backwards neither adds nor takes away."""
    bucket = Bucket(1000)
    bucket.take(250, 10.0)
    assert bucket.take(100, 5.0) == pytest.approx(0.1)


def test_refuses_a_rate_of_nothing() -> None:
    """A rate of 0 would wait for ever: no limit is None."""
    with pytest.raises(ValueError, match="above 0"):
        Bucket(0)
