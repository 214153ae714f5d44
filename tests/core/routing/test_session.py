"""What a reader is spared: refusals, waiting, starvation and donors that fail again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from core.errors import NoDonor
from core.ring.frames import Breach, Broken
from core.routing.ask import Waiting
from core.routing.watch import Blame
from core.serving.donor import DonorOptions
from core.swarm.peer import Unreachable
from core.terms import PeerId, Sampling, Span, Token
from tests.core.rings import FakeRing, fake_ring, greedy, make_checkpoint, reference

IDS = list(range(3, 40))
WHOLE = Span(0, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("bloom"))


async def test_donors_that_refuse_are_gone_around_however_many_they_are(folder: Path) -> None:
    """Seven are full; the eighth is found."""
    model = reference(folder)
    async with fake_ring(folder, []) as ring:
        for _ in range(7):
            full = await ring.add(WHOLE, DonorOptions(cache_tokens=512, places=1))
            full.pool.open()
        await ring.add(WHOLE)
        assert await ring.ask(ring.session(), IDS, 8) == greedy(model, IDS, 8)


async def test_a_first_route_is_waited_for(folder: Path) -> None:
    """The reader hears which layers are missing, and then the answer."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3)]) as ring:
        held, waited = [], []
        async for event in ring.session().answer(IDS, Sampling(), 8, frozenset()):
            if isinstance(event, Waiting):
                waited.append(event.missing)
                await ring.add(Span(3, 8))
            else:
                held.append(event.token_id)
        assert waited == [(Span(3, 8),)]
        assert held == greedy(model, IDS, 8)


async def test_room_is_waited_for_where_all_donors_are_full(folder: Path) -> None:
    """Why is said; when a place is free the answer begins."""
    model = reference(folder)
    async with fake_ring(folder, []) as ring:
        donor = await ring.add(WHOLE, DonorOptions(cache_tokens=512, places=1))
        slot = donor.pool.open()
        held, waited = [], []
        async for event in ring.session().answer(IDS, Sampling(), 8, frozenset()):
            if isinstance(event, Waiting):
                waited.append(event.why)
                donor.pool.release(slot)
            else:
                held.append(event.token_id)
        assert waited == ["all its places are taken"]
        assert held == greedy(model, IDS, 8)


async def test_a_donor_that_fails_again_and_again_is_given_up_in_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More often than a few times in a row, yet not for ever; the reader hears why."""
    monkeypatch.setattr("core.routing.patience.FIRST_PAUSE", 0.001)
    async with fake_ring(folder, [(0, 8)]) as ring:
        donor = ring.donors[0]
        ran = donor.engine.model.run
        failures = 0

        def run(*args: object) -> object:
            nonlocal failures
            failures += 1
            raise RuntimeError("out of luck")

        monkeypatch.setattr(donor.engine.model, "run", run)
        with pytest.raises(Exception, match="out of luck"):
            await ring.ask(ring.session(patience=0.05), IDS, 4)
        assert failures > 5
        monkeypatch.setattr(donor.engine.model, "run", ran)
        assert await ring.ask(ring.session(), IDS, 4) == greedy(reference(folder), IDS, 4)


async def test_a_ring_that_stands_still_is_no_nonsense(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again for much longer than the session's patience."""
    monkeypatch.setattr("core.routing.patience.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("core.routing.patience.LONGEST_PAUSE", 0.01)
    async with fake_ring(folder, [(0, 8)]) as ring:
        session = ring.session(patience=0.05)
        check = session._watch.check
        monkeypatch.setattr(
            session._watch,
            "check",
            lambda stages: check(stages) if session.moves > 15 else Blame(0, "it does not arrive"),
        )
        assert await ring.ask(session, IDS, 60) == greedy(reference(folder), IDS, 60)
        assert session.moves == 16


async def test_a_frozen_donor_is_found_while_a_route_is_opened(folder: Path) -> None:
    """Who waits for its answer too is not blamed in its place."""
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8), (3, 6)]) as ring:
        before = ring.session()
        assert await ring.ask(before, IDS, 2)
        assert before.route is not None
        frozen = before.route.stages[1].peer_id
        for other in ring.swarm.peers:
            if other != frozen:
                ring.swarm.stall(frozen, other)
        session = ring.session()
        session.route = before.route  # else the other one might be planned with
        assert await ring.ask(session, IDS, 4) == greedy(reference(folder), IDS, 4)
        assert [getattr(trouble, "peer", "a pair") for trouble in ring.troubles] == [frozen]
        for other in ring.swarm.peers:
            if other != frozen:
                ring.swarm.heal(frozen, other)


async def test_who_cannot_be_dialled_dials_back(folder: Path) -> None:
    """A connection from the other side serves as well."""
    async with fake_ring(folder, [(0, 3), (3, 8)]) as ring:
        one, other = (donor.peer for donor in ring.donors)
        dial, dialled, called = one.dial, other.dial, asyncio.Event()

        async def through_the_other(peer: PeerId, *more: object) -> object:
            if peer == other.peer_id and not called.is_set():
                raise Unreachable(peer, "nobody answers at its addresses")
            return await dial(peer, *more)  # type: ignore[arg-type]

        async def back(peer: PeerId, *more: object) -> object:
            called.set()
            return await dialled(peer, *more)  # type: ignore[arg-type]

        one.dial, other.dial = through_the_other, back  # type: ignore[method-assign, assignment]
        assert await ring.ask(ring.session(), IDS, 4) == greedy(reference(folder), IDS, 4)


async def test_a_stop_ends_the_waiting_at_once(folder: Path) -> None:
    """Nobody waits for a reader who has gone."""
    async with fake_ring(folder, [(0, 3)]) as ring:
        told = asyncio.Event()

        async def read() -> None:
            async for event in ring.session().answer(IDS, Sampling(), 8, frozenset()):
                assert isinstance(event, Waiting)
                told.set()

        reading = asyncio.create_task(read())
        await told.wait()
        reading.cancel()
        started = time.monotonic()
        with suppress(asyncio.CancelledError):
            await reading
        assert time.monotonic() - started < 0.2


async def test_waiting_for_a_first_route_ends_with_patience(folder: Path) -> None:
    """With the layers that are missing."""
    async with fake_ring(folder, [(0, 3)]) as ring:
        with pytest.raises(NoDonor, match="layers 3 to 7 have no donor"):
            await ring.ask(ring.session(patience=0.3), IDS, 4)


async def test_a_starved_reader_blames_nobody(folder: Path) -> None:
    """Its loop stands still for longer than any donor may; the route stays."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 8)]) as ring:
        session = ring.session()
        assert await _starved(ring, session, 0.6) == greedy(model, IDS, 30)
        assert session.moves == 0


async def _starved(ring: FakeRing, session: object, seconds: float) -> list[int]:
    held: list[int] = []
    async for event in session.answer(IDS, Sampling(), 30, frozenset()):  # type: ignore[attr-defined]
        assert isinstance(event, Token)
        held.append(event.token_id)
        if len(held) in {5, 10, 15}:
            asyncio.get_running_loop().call_soon(time.sleep, seconds)
    return held


async def test_a_stage_that_computes_nonsense_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that are none never reach the next stage; the text is the same."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8), (3, 6)]) as ring:
        session, held = ring.session(), []
        async for event in session.answer(IDS, Sampling(), 20, frozenset()):
            assert isinstance(event, Token)
            held.append(event.token_id)
            if len(held) == 6:
                ill = next(d for d in ring.donors if d.peer.peer_id == session.route.stages[1].peer_id)  # type: ignore[union-attr]
                monkeypatch.setattr(ill.engine.model, "run", partial(_nonsense, ill.engine.model.run))
        assert held == greedy(model, IDS, 20)
        assert session.moves == 1
        assert ill.peer.peer_id not in {stage.peer_id for stage in session.route.stages}  # type: ignore[union-attr]


def _nonsense(run: Callable[..., list[torch.Tensor]], *args: object) -> list[torch.Tensor]:
    return [output * float("nan") for output in run(*args)]


async def test_who_sends_nonsense_is_blamed_and_not_who_receives_it(folder: Path) -> None:
    """A frame of the wrong shape is the stage before's."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 8), (0, 3), (3, 8)]) as ring:
        session, held = ring.session(), []
        async for event in session.answer(IDS, Sampling(), 20, frozenset()):
            assert isinstance(event, Token)
            held.append(event.token_id)
            if len(held) == 6:
                entry, tail = (stage.peer_id for stage in session.route.stages)  # type: ignore[union-attr]
                epoch = session._client.epoch
                session._message(tail, Broken(session.id, 1, epoch, Breach.INPUT, "a frame of no shape"))
        assert held == greedy(model, IDS, 20)
        assert session.route.entry.peer_id != entry  # type: ignore[union-attr]
        assert session.route.tail.peer_id == tail  # type: ignore[union-attr]
