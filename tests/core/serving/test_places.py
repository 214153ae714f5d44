"""Sessions that ask for more than there is, fall silent, or give way."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from core.ring.frames import Breach, Broken, Reserve
from core.routing import patience as patience_module
from core.serving import places as places_module
from core.serving.donor import DonorOptions
from core.swarm.codec import pack
from core.swarm.messages import Lease, Message, Ready, Refuse
from core.terms import Span
from tests.core.rings import FakeRing, fake_ring, greedy, reference
from tests.core.serving.strangers import HIDDEN, LAYERS, Stranger, tail


async def test_more_cache_than_there_is_is_refused_in_words(ring: FakeRing) -> None:
    """Beyond the session's own length too."""
    stranger, _ = await tail(ring)
    broken = await stranger.say(Reserve(stranger.session, 1, 201))
    assert isinstance(broken, Broken)
    assert broken.breach is Breach.FULL


async def test_idle_sessions_give_way_and_are_rebuilt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full donor frees what was idle longest; its reader notices nothing but time."""
    monkeypatch.setattr(places_module, "BUSY_SECONDS", 0.0)
    model = reference(folder)
    async with fake_ring(folder, []) as ring:
        await ring.add(Span(0, LAYERS), DonorOptions(cache_tokens=128, places=2))
        ids = list(range(3, 60))
        first = ring.session()
        held = await ring.ask(first, ids, 4)
        for other in range(3):
            assert await ring.ask(ring.session(), [other, *ids], 4) == greedy(model, [other, *ids], 4)
        more = [*ids, *held, 7]
        assert await ring.ask(first, more, 4) == greedy(model, more, 4)


async def test_a_session_larger_than_the_pool_gets_a_clear_refusal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other donor has room either: the reader hears why."""
    from core.errors import SwarmError

    monkeypatch.setattr(patience_module, "LEAST_TRIES", 2)
    async with fake_ring(folder, []) as ring:
        await ring.add(Span(0, LAYERS), DonorOptions(cache_tokens=64, places=2))
        with pytest.raises(SwarmError, match="cache is full"):
            await ring.ask(ring.session(patience=0.3), list(range(90)), 4)


async def test_without_a_lease_a_session_is_parked_then_freed(
    ring: FakeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that fell silent holds nothing for long; a lease in time keeps everything."""
    stranger, _ = await tail(ring)
    sessions = ring.donors[1].sessions
    [held] = sessions.table
    monkeypatch.setattr(places_module, "LEASE_SECONDS", 0.0)
    await asyncio.sleep(0.01)
    sessions.places.sweep()
    assert held.parked
    monkeypatch.setattr(places_module, "LEASE_SECONDS", 15.0)
    stranger.stream.write(pack(Lease(15)))
    await asyncio.sleep(0.01)
    sessions.places.sweep()
    assert not held.parked
    monkeypatch.setattr(places_module, "IDLE_SECONDS", 0.0)
    sessions.places.sweep()
    assert len(sessions) == 0
    _, lapsed = await stranger.hear_all(0.2)
    assert isinstance(lapsed, Broken)
    assert lapsed.breach is Breach.LAPSED


async def test_logs_of_outputs_stay_below_their_cap(folder: Path) -> None:
    """Those of sessions that were idle longest go first, and no text changes."""
    model = reference(folder)
    async with fake_ring(folder, [(0, 3), (3, 8)]) as ring:
        entry = ring.donors[0].sessions.places
        entry.log_bytes = 100 * HIDDEN * 4
        prompts = [list(range(first, first + 60)) for first in (3, 13, 23)]
        readers = [ring.session() for _ in prompts]
        for session, ids in zip(readers, prompts, strict=True):
            assert await ring.ask(session, ids, 4) == greedy(model, ids, 4)
        entry.sweep()
        sizes = [held.part.log.size for held in entry.table]
        assert sum(sizes) <= entry.log_bytes
        assert sizes[:2] == [0, 0]
        assert sizes[2] > 0
        assert entry.free_log_bytes == entry.log_bytes - sum(sizes)


async def test_one_client_cannot_keep_others_out(folder: Path) -> None:
    """It may have all places while nobody else asks; then its youngest session gives way, down to a fair
    share."""
    async with fake_ring(folder, []) as ring:
        donor = await ring.add(Span(0, LAYERS), DonorOptions(cache_tokens=4096, places=4))
        greedy_one, other = Stranger(ring, 0), Stranger(ring, 0)
        await greedy_one.dial()
        await other.dial()

        async def opened(stranger: Stranger) -> Message:
            return await stranger.say(stranger.opening(session=secrets.token_bytes(16), stages=1))

        assert [type(await opened(greedy_one)) for _ in range(5)] == [Ready] * 4 + [Refuse]
        youngest = [held.part.session for held in donor.sessions.table][-1]
        assert [type(await opened(other)) for _ in range(3)] == [Ready, Ready, Refuse]
        broken = await greedy_one.hear()
        assert isinstance(broken, Broken)
        assert (broken.session, broken.breach) == (youngest, Breach.FULL)


async def test_the_youngest_session_gives_way_where_pages_are_short(folder: Path) -> None:
    """It is rebuilt when there is room: both answers are whole and right."""
    model = reference(folder)
    prompts = [list(range(3, 63)), list(range(13, 73))]
    async with fake_ring(folder, []) as ring:
        donor = await ring.add(Span(0, LAYERS), DonorOptions(cache_tokens=160, places=4))
        donor.engine.rest = 0.002
        answers = await asyncio.gather(*(ring.ask(ring.session(), ids, 60) for ids in prompts))
        assert answers == [greedy(model, ids, 60) for ids in prompts]
