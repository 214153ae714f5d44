"""Whole rings of donors in memory, against transformers on the same weights."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.errors import NoDonor
from core.routing.ask import Waiting
from core.terms import DonorState, Span
from tests.core.rings import FakeRing, fake_ring, greedy, make_checkpoint, reference

SPLITS = [
    [(0, 8)],
    [(0, 3), (3, 8)],
    [(0, 3), (3, 6), (6, 8)],
    [(0, 1), (1, 2), (2, 5), (5, 7), (7, 8)],
    [(0, 5), (3, 8), (2, 6)],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("bloom"))


@pytest.mark.parametrize("spans", SPLITS, ids=str)
async def test_a_ring_continues_as_one_process_does(folder: Path, spans: list[tuple[int, int]]) -> None:
    """One donor or five, even or overlapping: the same greedy tokens."""
    model = reference(folder)
    async with fake_ring(folder, spans) as ring:
        for length in (1, 5, 70):
            ids = [(7 * i) % 97 for i in range(1, length + 1)]
            session = ring.session()
            assert await ring.ask(session, ids, 20) == greedy(model, ids, 20)
            session.close()


async def test_a_conversation_goes_on_over_turns_and_edits(folder: Path) -> None:
    """Follow-up turns reuse the caches, and an edit goes back to where it was made."""
    model = reference(folder)
    async with fake_ring(folder, SPLITS[2]) as ring:
        session = ring.session()
        ids = list(range(3, 40))
        answer = await ring.ask(session, ids, 10)
        ids = [*ids, *answer, 50, 51]
        assert session.common(ids) == len(ids) - 3
        assert await ring.ask(session, ids, 10) == greedy(model, ids, 10)
        edited = [*ids[:20], 60, 61]
        assert session.common(edited) == 20
        assert await ring.ask(session, edited, 10) == greedy(model, edited, 10)


async def test_a_stop_ends_the_answer_and_the_session_goes_on(folder: Path) -> None:
    """Closing the iterator stops the ring; what the reader holds is kept."""
    model = reference(folder)
    async with fake_ring(folder, SPLITS[2]) as ring:
        session = ring.session()
        ids = [5, 6, 7]
        held = []
        tokens = session.answer(ids, *_greedy_200())
        async for token in tokens:
            held.append(token.token_id)
            if len(held) == 4:
                break
        await tokens.aclose()  # type: ignore[attr-defined]
        assert held == greedy(model, ids, 4)
        await asyncio.sleep(0.1)
        drawn = ring.donors[-1].engine.tokens
        await asyncio.sleep(0.2)
        assert ring.donors[-1].engine.tokens == drawn
        more = [*ids, *held, 9]
        assert await ring.ask(session, more, 5) == greedy(model, more, 5)


async def test_eight_readers_at_once_share_batches_and_change_nothing(folder: Path) -> None:
    """The engine runs what waits together; each reader's text is the one it would have alone."""
    model = reference(folder)
    prompts = [[(i * 13 + k) % 97 for k in range(4 + 9 * i)] for i in range(8)]
    async with fake_ring(folder, SPLITS[2]) as ring:
        answers = await asyncio.gather(*(ring.ask(ring.session(), ids, 15) for ids in prompts))
        assert answers == [greedy(model, ids, 15) for ids in prompts]


async def test_a_lost_donor_is_replaced_by_its_replica(folder: Path) -> None:
    """The answer goes on over another route, and the text stays the same."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (3, 6), (6, 8)]) as ring:
        session = ring.session()
        ids, held = [8, 9, 10], []
        async for token in session.answer(ids, *_greedy_200(30)):
            held.append(token.token_id)
            if len(held) == 5:
                lost = session.route.stages[1].peer_id  # type: ignore[union-attr]
                await next(d for d in ring.donors if d.peer.peer_id == lost).stop()
        assert held == greedy(model, ids, 30)
        assert session.moves >= 1


@pytest.mark.parametrize("lost", [0, 1, 2], ids=["entry", "middle", "tail"])
async def test_a_replacement_is_filled_from_the_log_before_it(folder: Path, lost: int) -> None:
    """The stages that stay run nothing twice but the last token; the text is the same."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8)] * 2) as ring:
        session = ring.session()
        ids, held = list(range(3, 60)), []
        async for token in session.answer(ids, *_greedy_200(20)):
            held.append(token.token_id)
            if len(held) == 6:
                route = session.route
                assert route is not None
                staying = [stage.peer_id for i, stage in enumerate(route.stages) if i != lost]
                before = _rows_of(ring, staying)
                await next(d for d in ring.donors if d.peer.peer_id == route.stages[lost].peer_id).stop()
        assert held == greedy(model, ids, 20)
        assert [s.peer_id for i, s in enumerate(session.route.stages) if i != lost] == staying  # type: ignore[union-attr]
        assert all(rows < len(ids) for rows in _rows_of(ring, staying, before))


async def test_two_neighbours_lost_at_once_are_both_replaced(folder: Path) -> None:
    """The log before the first fills both."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 2), (2, 4), (4, 6), (6, 8)] * 2) as ring:
        session = ring.session()
        ids, held = list(range(3, 60)), []
        async for token in session.answer(ids, *_greedy_200(20)):
            held.append(token.token_id)
            if len(held) == 6:
                gone = [stage.peer_id for stage in session.route.stages[1:3]]  # type: ignore[union-attr]
                await asyncio.gather(*(d.stop() for d in ring.donors if d.peer.peer_id in gone))
        assert held == greedy(model, ids, 20)


async def test_a_lost_log_means_computing_again_and_nothing_worse(folder: Path) -> None:
    """Where the stage before has no log, its own predecessor's serves, or the client's ids."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8), (6, 8)]) as ring:
        session = ring.session()
        ids, held = list(range(3, 60)), []
        async for token in session.answer(ids, *_greedy_200(20)):
            held.append(token.token_id)
            if len(held) == 6:
                for donor in ring.donors[:2]:
                    for part in donor.sessions.table:
                        part.part.log.clear(part.part.ran)
                tail = session.route.tail.peer_id  # type: ignore[union-attr]
                await next(d for d in ring.donors if d.peer.peer_id == tail).stop()
        assert held == greedy(model, ids, 20)


async def test_a_donor_that_was_only_slow_is_kept_where_it_is_the_only_one(folder: Path) -> None:
    """Blamed for its silence, it is asked again before the reader is told that nobody is left."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8)]) as ring:
        session = ring.session()
        ids, held = list(range(3, 60)), []
        async for event in session.answer(ids, *_greedy_200(20)):
            assert not isinstance(event, Waiting)
            held.append(event.token_id)
            if len(held) == 6:
                slow = ring.donors[1].peer.peer_id
                session._lost(slow, "it does not answer")
        assert held == greedy(model, ids, 20)
        assert session.moves == 1


async def test_an_answer_waits_for_a_donor_of_lost_layers(folder: Path) -> None:
    """The reader is told which; the answer goes on when one comes, and is the same."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8)]) as ring:
        session = ring.session()
        ids, held, waited = list(range(3, 60)), [], []
        async for event in session.answer(ids, *_greedy_200(20)):
            if isinstance(event, Waiting):
                waited.append(event.missing)
                await ring.add(Span(3, 6))
                continue
            held.append(event.token_id)
            if len(held) == 6:
                await ring.donors[1].stop()
        assert held == greedy(model, ids, 20)
        assert waited == [(Span(3, 6),)]


async def test_waiting_ends_with_the_readers_patience(folder: Path) -> None:
    """With words about the layers that are missing and why."""
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8)]) as ring:
        session = ring.session(patience=0.6)

        async def ask() -> None:
            held = 0
            async for _ in session.answer([3, 4, 5], *_greedy_200(50)):
                held += 1
                if held == 6:
                    await ring.donors[1].stop()

        with pytest.raises(NoDonor, match="layers 3 to 5 have no donor left: the donor is leaving"):
            await ask()


def _rows_of(ring: FakeRing, peers: list[str], less: list[int] | None = None) -> list[int]:
    """Rows that these donors' engines have run."""
    rows = [next(d.engine.rows for d in ring.donors if d.peer.peer_id == peer) for peer in peers]
    return [now - then for now, then in zip(rows, less or [0] * len(rows), strict=True)]


def _greedy_200(count: int = 200):  # type: ignore[no-untyped-def]
    from core.terms import Sampling

    return Sampling(), count, frozenset()


@pytest.mark.parametrize("lost", [0, 1, 2], ids=["entry", "middle", "tail"])
async def test_a_silent_donor_is_found_and_replaced(folder: Path, lost: int) -> None:
    """One whose network is gone closes nothing and says nothing; the others are kept."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8)] * 2) as ring:
        session = ring.session()
        ids, held = list(range(3, 60)), []
        async for token in session.answer(ids, *_greedy_200(20)):
            held.append(token.token_id)
            if len(held) == 6:
                silent = session.route.stages[lost].peer_id  # type: ignore[union-attr]
                for other in ring.swarm.peers:
                    if other != silent:
                        ring.swarm.stall(silent, other)
        assert held == greedy(model, ids, 20)
        assert session.moves == 1
        for other in ring.swarm.peers:
            if other != silent:
                ring.swarm.heal(silent, other)


async def test_a_link_that_swallows_frames_is_gone_around(folder: Path) -> None:
    """Both ends answer the client; only what one sends the other is lost."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8)] * 2) as ring:
        session = ring.session()
        ids, held = list(range(3, 60)), []
        async for token in session.answer(ids, *_greedy_200(20)):
            held.append(token.token_id)
            if len(held) == 6:
                one, other = (stage.peer_id for stage in session.route.stages[:2])  # type: ignore[union-attr]
                ring.swarm.stall(one, other)
        assert held == greedy(model, ids, 20)
        ring.swarm.heal(one, other)


@pytest.mark.parametrize("broken", [0, 2], ids=["to the next", "back to the entry"])
async def test_a_connection_that_carries_nothing_any_more_is_made_anew(
    folder: Path, broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else has these layers: the answer goes on over another connection between the same two."""
    monkeypatch.setattr("core.serving.links.STALE_SECONDS", 0.2)
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8)]) as ring:
        session = ring.session()
        ids, held = list(range(3, 60)), []
        async for token in session.answer(ids, *_greedy_200(20)):
            held.append(token.token_id)
            if len(held) == 6:
                ring.swarm.strand(*(ring.donors[stage % 3].peer.peer_id for stage in (broken, broken + 1)))
        assert held == greedy(model, ids, 20)


@pytest.mark.parametrize("leaver", [0, 1, 2], ids=["entry", "middle", "tail"])
async def test_a_donor_that_leaves_as_planned_is_replaced_while_it_serves(folder: Path, leaver: int) -> None:
    """Its replacement is filled meanwhile; the others run nothing again; it ends when nobody is left."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 6), (6, 8)] * 2) as ring:
        for donor in ring.donors:
            donor.engine.rest = 0.005
        session = ring.session()
        ids, held = list(range(3, 60)), []
        async for token in session.answer(ids, *_greedy_200(120)):
            held.append(token.token_id)
            if len(held) == 6:
                route = session.route
                assert route is not None
                staying = [stage.peer_id for i, stage in enumerate(route.stages) if i != leaver]
                before = _rows_of(ring, staying)
                gone = next(d for d in ring.donors if d.peer.peer_id == route.stages[leaver].peer_id)
                leaving = asyncio.create_task(gone.drain(30))
        await asyncio.wait_for(leaving, 5)
        assert held == greedy(model, ids, 120)
        assert session.moves == 1
        assert all(rows < len(ids) + 200 for rows in _rows_of(ring, staying, before))
        assert len(gone.sessions) == 0


async def test_a_thin_upload_is_measured_and_announced(folder: Path) -> None:
    """On the prompt's own activations, by who sends them; the record tells the next reader."""
    async with fake_ring(folder, [(0, 3), (3, 8)]) as ring:
        entry, tail = ring.donors
        ring.swarm.link(entry.peer.peer_id, tail.peer.peer_id).rate = 200_000
        session = ring.session(chunk=512)
        await ring.ask(session, [(7 * i) % 97 for i in range(500)], 2)
        for _ in range(1000):  # word that the last of it arrived may come behind the answer
            record = entry._record(DonorState.ONLINE)
            if record.upload_rate:
                break
            await asyncio.sleep(0.01)
        assert 0 < record.upload_rate < 300_000
        assert record.readers == 1
        assert tail._record(DonorState.ONLINE).upload_rate == 0


async def test_a_donor_that_rests_promises_no_more_than_it_keeps(folder: Path) -> None:
    """Part of the time held back makes its steps that much longer, and its rates lower, in its record."""
    async with fake_ring(folder, [(0, 8)]) as ring:
        (donor,) = ring.donors
        session = ring.session()
        await ring.ask(session, [3, 4, 5], 10)
        session.close()
        speed = donor.engine.speed
        free = donor._record(DonorState.ONLINE)
        donor.rest_for(0.75)
        resting = donor._record(DonorState.ONLINE)
        donor.engine.rest = 0.5
        slow = donor._record(DonorState.ONLINE)
    assert free.step_seconds == speed.decode_step > 0
    assert resting.step_seconds == pytest.approx(4 * free.step_seconds)
    assert resting.decode_rate == pytest.approx(free.decode_rate / 4)
    assert resting.prefill_rate < free.prefill_rate
    assert slow.step_seconds == pytest.approx(resting.step_seconds + 0.5)
