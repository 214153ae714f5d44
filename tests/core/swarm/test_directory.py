"""The directory against peers that store nonsense."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgpack
import pytest

from core.swarm.directory import DhtDirectory
from core.swarm.guard import MODELS_KEY, band_key
from core.swarm.identity import Identity
from core.swarm.p2p import HivemindPeer, start_peer
from core.swarm.records import WIRE_VERSION, seal
from core.swarm.watch import withdraw_for
from core.terms import DonorState, ModelRef, Record, Span

MODEL = ModelRef("bloom", "main", 26)
KEY = band_key(MODEL, 0)
SPAN = Span(0, 8)


@pytest.fixture
async def peers(short_folder: Path) -> AsyncIterator[list[HivemindPeer]]:
    """A node that holds the DHT, and two clients of it."""
    made: list[HivemindPeer] = []
    for number in range(3):
        peer = await start_peer(
            identity=short_folder / f"{number}.id",
            runtime=short_folder / "run",
            initial_peers=made[0].addresses if made else (),
            client_only=number > 0,
        )
        made.append(peer)
    yield made
    for peer in reversed(made):
        await peer.close()


def record(identity: Identity | HivemindPeer, span: Span = SPAN) -> Record:
    return Record(identity.peer_id, MODEL, span, DonorState.ONLINE, 1.0, time.time() + 60)


async def test_one_bad_entry_hides_nothing_else(peers: list[HivemindPeer]) -> None:
    """Junk, forged, misplaced and oversized entries under a key leave the good ones readable."""
    holder, donor, reader = peers
    stored = await donor.directory.announce(record(donor))
    mallory, victim = Identity.make(), Identity.make()
    good = seal(record(mallory), mallory)
    later = time.time() + 100
    for subkey, value in (
        ("junk", b"\xc1 not msgpack"),
        ("empty", b""),
        (victim.peer_id, good),  # another's record under a victim's name
        (mallory.peer_id, good[:-1] + b"?"),
        (7, b"x" * 1000),
        ("huge", b"x" * 100_000),
    ):
        await holder.directory._node.store(KEY, value, later, subkey=subkey)
        await holder.directory._node.store(MODELS_KEY, value, later, subkey=subkey)
    assert await reader.directory.read(MODEL) == (stored,)
    # The record is a good proof of its model wherever it lies; the rest is passed over.
    assert await reader.directory.models() == (MODEL,)


async def test_a_plain_value_does_not_replace_all_entries(peers: list[HivemindPeer]) -> None:
    """Storing under the bare key, as hivemind allows, is refused by those that hold the DHT."""
    _, donor, reader = peers
    stored = await donor.directory.announce(record(donor))
    assert not await reader.directory._node.store(KEY, b"nothing", time.time() + 100, exclude_self=True)
    assert await reader.directory.read(MODEL) == (stored,)


async def test_a_donor_that_comes_back_is_not_held_off_by_its_own_leaving(peers: list[HivemindPeer]) -> None:
    """A restarted donor does not know when its last record ran out, and still gets its new one in."""
    _, donor, reader = peers
    stored = await donor.directory.announce(record(donor))
    await donor.directory.withdraw(stored)
    reborn = DhtDirectory(donor.directory._identity)
    reborn.use(donor.directory._node, client_only=True)
    fresh = await reborn.announce(record(donor))
    assert await reader.directory.read(MODEL) == (fresh,)


async def test_clients_of_the_dht_hold_nothing(peers: list[HivemindPeer]) -> None:
    """A client's record lies with the node that holds the DHT, not with itself."""
    holder, donor, _ = peers
    await donor.directory.announce(record(donor, Span(0, 26)))
    assert len(donor.directory._node.protocol.storage) == 0
    assert len(holder.directory._node.protocol.storage) == len(range(0, 26, 8)) + 1


async def test_the_node_can_speak_for_its_dead_worker(peers: list[HivemindPeer]) -> None:
    """With the worker's identity, another peer of this PC withdraws its record, once; the record of a life
    that began later stays."""
    holder, donor, reader = peers
    await donor.directory.announce(record(donor))
    me, died_at = donor.directory._identity, record(donor).started_at
    assert not await withdraw_for(holder.directory, me, MODEL, died_at - 1)
    assert await withdraw_for(holder.directory, me, MODEL, died_at)
    assert not await withdraw_for(holder.directory, me, MODEL, died_at)
    (left,) = await reader.directory.read(MODEL)
    assert left.state == DonorState.LEAVING
    await donor.directory.announce(record(donor))
    (again,) = await reader.directory.read(MODEL)
    assert again.state == DonorState.ONLINE


def test_keys_tell_models_apart() -> None:
    """Id, revision, length and band each make another key."""
    models = [
        MODEL,
        ModelRef("bloom", "other", 26),
        ModelRef("b", "loommain", 26),
        ModelRef("bloom", "main", 27),
    ]
    assert len({band_key(model, band) for model in models for band in range(4)}) == 16
    assert msgpack.unpackb(KEY)[0] == WIRE_VERSION


async def test_who_stores_does_not_read_along(
    peers: list[HivemindPeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else announcing would cost the more the more others have announced."""
    _, donor, other = peers
    protocol, values = sys.modules["hivemind.dht.protocol"].DHTProtocol, []
    answer = protocol.rpc_find

    async def rpc_find(self: object, request: object, context: object) -> object:
        answered = await answer(self, request, context)
        values.extend(result.value for result in answered.results if result.value)
        return answered

    await other.directory.announce(record(other))
    monkeypatch.setattr(protocol, "rpc_find", rpc_find)
    stored = await donor.directory.announce(record(donor))
    assert values == []
    assert stored in await other.directory.read(MODEL)
    assert values
