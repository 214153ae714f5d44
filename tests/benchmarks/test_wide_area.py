"""Donors answer over the network in user space, and an emulated engine takes the time it declares."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.checkpoints import random_weights
from benchmarks.internet.network import Host, Internet
from benchmarks.swarm_of_workers import split
from benchmarks.wide_area.paced import Pace
from benchmarks.wide_area.swarm import CLIENT, Place, wide_swarm
from core.model.config import read_config
from core.swarm.loop import new_event_loop

ONE_WAY = 0.02


@pytest.mark.root
def test_a_token_takes_its_ways_and_its_computing(tmp_path: Path) -> None:
    """Two donors, 20 ms apart, each computing for a declared 10 ms, need at least 60 ms a token."""
    pace = Pace(0.01, 0.0, 0.0)

    async def step() -> float:
        folder = await random_weights("tiny", tmp_path)
        spans = split(read_config(folder).layers, 2)
        hosts = [Host(name, 100, 100, ONE_WAY * 500) for name in (CLIENT, "one", "two")]
        places = [Place(host.name, span, pace=pace) for host, span in zip(hosts[1:], spans, strict=True)]
        async with (
            Internet(hosts) as net,
            wide_swarm(net, folder, places, dtype="float32", threads=1) as swarm,
        ):
            return (await swarm.answer([5, 6, 7], 10)).step

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert 2 * (ONE_WAY + pace.step) <= runner.run(step()) < 0.2


def test_a_pace_is_bound_by_weights_or_by_rows() -> None:
    """A few rows cost a step, many cost themselves, and each further session a little."""
    pace = Pace(step=0.1, row=0.01, session=0.002)
    assert [pace.seconds(1, 1), pace.seconds(8, 1), pace.seconds(50, 1)] == [0.1, 0.1, 0.5]
    assert pace.seconds(8, 8) == pytest.approx(0.114)
