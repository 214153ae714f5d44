"""What a storing peer takes: 10,000 entries that it must not, and those that it must."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.swarm import hive
from core.swarm.guard import FULLEST, MODELS_KEY, Guard, Rates, band_key, check, model_subkey, place_of
from core.swarm.identity import Identity
from core.swarm.records import MAX_LIFETIME, WIRE_VERSION, BadRecord, seal
from core.terms import DonorState, ModelRef, PeerId, Record, Span

NOW = 1_800_000_000.0
MODEL = ModelRef("bloom", "main", 26)
PLACE = place_of(band_key(MODEL, 0))
ALICE, MALLORY = Identity.make(), Identity.make()


def record(identity: Identity, **changes: Any) -> Record:
    made = Record(identity.peer_id, MODEL, Span(0, 8), DonorState.ONLINE, 1.0, NOW + 60)
    return replace(made, **changes)


def packed(subkey: object) -> bytes:
    data: bytes = msgpack.packb(subkey)
    return data


GOOD = seal(record(ALICE), ALICE)


def takes(
    guard: Guard, subkey: object, value: bytes, expires: float = NOW + 60, place: bytes = PLACE
) -> bool:
    return guard.takes(place, packed(subkey), value, expires)


def fresh() -> Guard:
    return Guard(lambda: NOW, lambda: 0.0)


def test_a_donors_own_record_is_taken() -> None:
    """Under its bands, also those that it has left, and in the list of models."""
    for band in range(4):
        assert takes(fresh(), ALICE.peer_id, GOOD, place=place_of(band_key(MODEL, band)))
    assert takes(fresh(), model_subkey(MODEL), GOOD, place=place_of(MODELS_KEY))


@pytest.mark.parametrize(
    ("subkey", "value", "expires", "place"),
    [
        (MALLORY.peer_id, GOOD, NOW + 60, PLACE),
        (ALICE.peer_id, seal(record(MALLORY), MALLORY), NOW + 60, PLACE),
        (ALICE.peer_id, GOOD, NOW + 61, PLACE),
        (ALICE.peer_id, GOOD, float("inf"), PLACE),
        (ALICE.peer_id, GOOD, float("nan"), PLACE),
        (ALICE.peer_id, GOOD, NOW + 60, place_of(band_key(MODEL, 4))),
        (ALICE.peer_id, GOOD, NOW + 60, place_of(band_key(replace(MODEL, revision="other"), 0))),
        (ALICE.peer_id, GOOD, NOW + 60, place_of(MODELS_KEY)),
        (model_subkey(replace(MODEL, model_id="other")), GOOD, NOW + 60, place_of(MODELS_KEY)),
        (ALICE.peer_id, GOOD + bytes(2000), NOW + 60, PLACE),
        (7, GOOD, NOW + 60, PLACE),
        (None, GOOD, NOW + 60, PLACE),
    ],
    ids=[
        "another's name",
        "another's record under a victim's name",
        "a later expiry",
        "for ever",
        "no expiry",
        "a band that the model does not have",
        "another revision",
        "a peer as a model",
        "another model",
        "oversized",
        "a number as subkey",
        "no subkey",
    ],
)
def test_what_does_not_fit_together_is_refused(
    subkey: object, value: bytes, expires: float, place: bytes
) -> None:
    """Each part is right by itself, and another's, or for another place or time."""
    assert not takes(fresh(), subkey, value, expires, place)


def test_expired_and_far_future_records_are_refused() -> None:
    """However well they are signed."""
    for expires in (NOW - 1, NOW, NOW + MAX_LIFETIME + 1, NOW + 1e9):
        value = seal(record(ALICE, expires_at=expires), ALICE)
        assert not takes(fresh(), ALICE.peer_id, value, expires)


def test_eight_thousand_mutations_of_a_real_record_are_refused() -> None:
    """Bits turned, bytes cut, doubled and swapped: none is taken, none crashes."""
    chance, guard = random.Random(4), fresh()
    for _ in range(8000):
        data = bytearray(GOOD)
        match chance.randrange(4):
            case 0:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            case 1:
                del data[chance.randrange(len(data)) :]
            case 2:
                at = chance.randrange(len(data))
                data[at:at] = data[at : at + chance.randrange(1, 40)] or b"!"
            case _:
                one, other = sorted(chance.sample(range(len(data)), 2))
                data = data[:one] + data[other:] + data[one:other]
        if bytes(data) != GOOD:
            assert not takes(guard, ALICE.peer_id, bytes(data))


@settings(max_examples=1500)
@given(
    place=st.sampled_from([PLACE, place_of(MODELS_KEY), b""]) | st.binary(max_size=24),
    subkey=st.binary(max_size=64) | st.sampled_from([packed(ALICE.peer_id), b"", b"\xc0"]),
    value=st.binary(max_size=200)
    | st.builds(
        lambda fields: bytes(64) + packed(fields),
        st.dictionaries(
            st.sampled_from("pmrnabstxdcqwAVEN"), st.none() | st.booleans() | st.floats() | st.text()
        ),
    ),
    expires=st.floats(),
)
def test_fuzzed_entries_are_refused(place: bytes, subkey: bytes, value: bytes, expires: float) -> None:
    """Whatever a stranger sends: refused, and never an error."""
    assert not fresh().takes(place, subkey, value, expires)


@settings(max_examples=1200)
@given(
    signer=st.sampled_from([ALICE, MALLORY]),
    about=st.sampled_from([ALICE, MALLORY]),
    subkey=st.sampled_from([ALICE.peer_id, MALLORY.peer_id, model_subkey(MODEL)]),
    band=st.integers(0, 6),
    signed=st.floats(NOW - 200, NOW + 400),
    claimed=st.none() | st.floats(NOW - 200, NOW + 400),
)
def test_forged_entries_are_refused_and_honest_ones_taken(  # noqa: PLR0917 – hypothesis names them
    signer: Identity, about: Identity, subkey: str, band: int, signed: float, claimed: float | None
) -> None:
    """All ways to put a signed record somewhere: it is taken exactly where, and while, it belongs."""
    body = seal(record(about, expires_at=signed), about)[64:]
    data = signer.sign(b"idlebloom record %d\n" % WIRE_VERSION + body) + body
    expires = signed if claimed is None else claimed
    honest = (
        signer is about
        and subkey == about.peer_id
        and band < 4
        and expires == signed
        and NOW < signed <= NOW + MAX_LIFETIME
    )
    assert takes(fresh(), subkey, data, expires, place_of(band_key(MODEL, band))) == honest


def test_a_sender_may_bring_only_so_much() -> None:
    """Of entries a second; another is not held up by it, until all together are too many."""
    now = 0.0
    guard = Guard(lambda: NOW, lambda: now)
    mallory, bob = PeerId("mallory"), PeerId("bob")
    assert guard.admits(mallory, 100)
    assert not guard.admits(mallory, 100)
    assert guard.admits(bob, 100)
    now = 10.0
    assert guard.admits(mallory, 100)
    assert not guard.admits(PeerId("greedy"), 10**6)


def test_a_donor_may_change_its_record_only_so_often() -> None:
    """What comes faster than any honest donor announces is refused."""
    guard = fresh()
    taken = sum(
        takes(
            guard,
            ALICE.peer_id,
            seal(record(ALICE, expires_at=NOW + 1 + step / 10), ALICE),
            NOW + 1 + step / 10,
        )
        for step in range(400)
    )
    assert 100 < taken < 200


def test_who_was_not_seen_for_long_is_forgotten() -> None:
    """The memory of senders does not grow with them."""
    rates = Rates(1.0, 1.0)
    for number in range(10_000):
        assert rates.take(str(number), 1, 0.0)
    assert rates.take("0", 1, 0.0)


def test_an_entry_says_whose_it_is() -> None:
    """The record comes back where all fits."""
    assert check(PLACE, packed(ALICE.peer_id), GOOD, NOW + 60, NOW).peer_id == ALICE.peer_id
    with pytest.raises(BadRecord, match="another's name"):
        check(PLACE, packed(MALLORY.peer_id), GOOD, NOW + 60, NOW)


# The same at hivemind's protocol: what a peer in the swarm can send to one that stores.


@pytest.fixture
def storing() -> Any:
    """A protocol as a storing peer has it, without a network around it."""
    hive.load()
    dht = sys.modules["core.swarm.dht"]
    routing = sys.modules["hivemind.dht.routing"]
    protocol = dht.IdlebloomDHT(_initialized_with_create=True)
    protocol.node_id = routing.DHTID.generate()
    protocol.storage = sys.modules["hivemind.dht.storage"].DHTLocalStorage()
    protocol.cache = sys.modules["hivemind.dht.storage"].DHTLocalStorage()
    protocol.node_info = sys.modules["hivemind.proto.dht_pb2"].NodeInfo()
    protocol.record_validator, protocol.guard = None, Guard(time.time, lambda: 0.0)
    return protocol


async def store(
    protocol: Any, *entries: tuple[bytes, bytes, bytes, float], cached: bool = False
) -> list[bool]:
    request = sys.modules["hivemind.proto.dht_pb2"].StoreRequest(
        keys=[e[0] for e in entries],
        subkeys=[e[1] for e in entries],
        values=[e[2] for e in entries],
        expiration_time=[e[3] for e in entries],
        in_cache=[cached for _ in entries],
    )
    sender = SimpleNamespace(to_base58=lambda: MALLORY.peer_id)
    answer = await protocol.rpc_store(request, SimpleNamespace(remote_id=sender, local_id=sender))
    return list(answer.store_ok)


def entry(identity: Identity, expires: float) -> tuple[bytes, bytes, bytes, float]:
    sealed = seal(record(identity, expires_at=expires), identity)
    return PLACE, packed(identity.peer_id), sealed, expires


def held(protocol: Any) -> dict[str, tuple[bytes, float]]:
    found = protocol.storage.get(type(protocol.node_id).from_bytes(PLACE))
    return (
        {}
        if found is None
        else {key: (item.value, item.expiration_time) for key, item in found.value.items()}
    )


async def test_nothing_that_others_send_changes_an_entry(storing: Any) -> None:
    """Beside bad ones the good is stored; played again, forged, older or as a whole dictionary, nothing
    touches what lies there, nor how long it stays."""
    now = time.time()
    good = entry(ALICE, now + 60)
    assert await store(storing, good, (PLACE, packed(MALLORY.peer_id), good[2], now + 60)) == [True, False]
    before, older = held(storing), entry(ALICE, now + 30)
    heap = dict(storing.storage.get(type(storing.node_id).from_bytes(PLACE)).value.key_to_heap)
    plain, dictionary = packed(None), b""
    pack = storing.serializer.dumps
    evil = sys.modules["hivemind.dht.storage"].DictionaryDHTValue()
    evil.store(ALICE.peer_id, b"nothing", now + 100)
    evil.store(7, b"a number", now + 101)
    for attack in (
        good,
        older,
        (PLACE, plain, b"instead of all", now + 100),
        (PLACE, good[1], b"junk", now + 100),
        (PLACE, good[1], good[2], now + 100),
    ):
        assert await store(storing, attack) == [False]
        assert await store(storing, attack, cached=True) == [False]
    await store(storing, (PLACE, dictionary, pack(evil), now + 100))
    assert held(storing) == before and len(storing.cache) == 0
    assert storing.storage.get(type(storing.node_id).from_bytes(PLACE)).value.key_to_heap == heap
    assert await store(storing, entry(ALICE, now + 90)) == [True]


async def test_a_key_takes_no_more_than_others_can_read(storing: Any) -> None:
    """Where very many lie, one makes room for each that comes: the whole stays readable."""
    now = time.time()
    storing.guard = SimpleNamespace(takes=lambda *_: True, admits=lambda *_: True)
    for number in range(FULLEST + 50):
        await store(storing, (PLACE, packed(f"donor {number}"), b"x", now + 60))
    assert len(held(storing)) == FULLEST
    assert f"donor {FULLEST + 49}" in held(storing)


async def test_a_peer_that_calls_its_answer_valid_for_ever_hides_nobody(storing: Any) -> None:
    """What is found counts for as long as its entries say, so that others are asked as well."""
    pb, dht = sys.modules["hivemind.proto.dht_pb2"], sys.modules["hivemind.dht.storage"]
    liar = dht.DictionaryDHTValue()
    liar.store(MALLORY.peer_id, entry(MALLORY, time.time() + 60)[2], time.time() + 60)

    async def find(request: Any, timeout: float) -> Any:
        result = pb.FindResult(
            type=pb.FOUND_DICTIONARY, value=storing.serializer.dumps(liar), expiration_time=float("inf")
        )
        return pb.FindResponse(results=[result])

    class Semaphore:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *_: object) -> None: ...

    storing.get_stub = lambda peer: SimpleNamespace(rpc_find=find)
    storing.rpc_semaphore, storing.wait_timeout = Semaphore(), 3
    key = type(storing.node_id).from_bytes(PLACE)
    found = await storing.call_find(None, [key])
    assert found[key][0].expiration_time <= time.time() + 60
