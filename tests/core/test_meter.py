from __future__ import annotations

import asyncio

import pytest

from core.meter import (
    BURST_SECONDS,
    BYTES_A_MBIT,
    OVERHEAD,
    Bucket,
    Limit,
    Throttle,
    Traffic,
    Urgency,
    left_for_downloads,
    used_up,
)


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


class Simulated:
    """One wire under a limit: tasks that send as fast as they are let, and what the wire carried in truth."""

    def __init__(self, rate: float) -> None:
        self.limit, self.now, self.wire = Limit(rate), 0.0, 0.0
        self.passed = dict.fromkeys(Urgency, 0.0)
        self._unpolled = 0.0

    def run(self, seconds: float, wants: dict[Urgency, float], size: float = 16_384) -> None:
        """``wants``: bytes a second of each urgency. The wire adds headers, and is looked at now and then."""
        step, owed = 0.005, dict.fromkeys(wants, 0.0)
        for tick in range(int(seconds / step)):
            self.now += step
            for urgency, rate in wants.items():
                owed[urgency] = min(owed[urgency] + rate * step, rate)
                while owed[urgency] >= size and not self.limit.wait(urgency, self.now):
                    owed[urgency] -= size
                    self.limit.passed(size, self.now)
                    self.passed[urgency] += size
                    self.wire += size * OVERHEAD
                    self._unpolled += size * OVERHEAD
            if tick % 50 == 49:
                self.limit.carried(self._unpolled, self.now)
                self._unpolled = 0.0


@pytest.mark.parametrize("mbit", [2, 10, 50])
def test_a_cap_holds_over_headers_and_all_that_is_urgent(mbit: float) -> None:
    """What the wire carries stays within the cap, though headers and answers are never asked about."""
    rate = mbit * BYTES_A_MBIT
    wire = Simulated(rate)
    wire.run(30, {Urgency.DECODE: rate / 5, Urgency.PREFILL: 10 * rate})
    assert 0.9 * rate * 30 < wire.wire < 1.02 * rate * 30
    assert wire.passed[Urgency.DECODE] > 0.98 * rate / 5 * 30


def test_downloads_give_way_to_prompts_and_prompts_to_answers() -> None:
    """Alone a download has the whole cap; beside prompts that want it all, next to nothing."""
    alone, beside = Simulated(1e6), Simulated(1e6)
    alone.run(10, {Urgency.DOWNLOAD: 1e7})
    beside.run(10, {Urgency.PREFILL: 1e7, Urgency.DOWNLOAD: 1e7})
    assert alone.passed[Urgency.DOWNLOAD] > 0.9e7
    assert beside.passed[Urgency.PREFILL] > 0.9e7
    assert beside.passed[Urgency.DOWNLOAD] < 0.05e7


def test_what_was_told_is_not_counted_again_when_the_wire_carries_it() -> None:
    """The wire's own count debits only what is beyond what was told before."""
    limit = Limit(1000)
    limit.passed(250, 0.0)
    limit.carried(250, 0.0)
    assert limit.wait(Urgency.PREFILL, 0.0) == 0
    limit.carried(100, 0.0)
    assert limit.wait(Urgency.PREFILL, 0.0) == pytest.approx(0.1)
    assert limit.wait(Urgency.DECODE, 0.0) == 0


async def test_a_throttle_waits_and_takes_a_new_rate_at_once() -> None:
    """Who waits under a low rate goes on soon after the rate was raised; no rate waits for nothing."""
    throttle = Throttle(100)
    waiting = asyncio.create_task(throttle.take(1000, Urgency.PREFILL))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await throttle.take(1000, Urgency.DECODE)
    throttle.limit.rate = None
    await asyncio.wait_for(waiting, 5)
    await throttle.take(10**12)
    with pytest.raises(ValueError, match="above 0"):
        throttle.limit.rate = 0


def test_downloads_have_what_a_worker_leaves() -> None:
    """The rest of the cap, never less than a tenth of it; without a cap, no limit."""
    assert left_for_downloads(None, 5e6) is None
    assert left_for_downloads(1e6, 0.25e6) == pytest.approx(0.75e6)
    assert left_for_downloads(1e6, 2e6) == pytest.approx(0.1e6)


def test_a_quota_counts_both_directions() -> None:
    """It is reached by bytes in and out together; without one, never."""
    carried = Traffic(400_000_000, 600_000_000)
    assert used_up(carried, 1.0)
    assert not used_up(carried, 1.1)
    assert not used_up(carried, None)
