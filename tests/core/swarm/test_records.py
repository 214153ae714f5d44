from __future__ import annotations

import math
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.swarm.identity import Identity, public_key_of
from core.swarm.records import (
    _DOMAIN,
    MAX_RECORD_BYTES,
    BadRecord,
    announced,
    bands,
    open_sealed,
    seal,
    withdrawn,
)
from core.terms import DonorState, ModelRef, Record, Span, WireDtype

NOW = 1_800_000_000.0
ALICE, MALLORY = Identity.from_seed(b"a" * 32), Identity.from_seed(b"m" * 32)
MODEL = ModelRef("bigscience/bloom-560m", "0" * 40, 26)


def record(**changes: object) -> Record:
    plain = Record(ALICE.peer_id, MODEL, Span(0, 8), DonorState.ONLINE, NOW - 5, NOW + 90)
    return replace(plain, **changes)  # type: ignore[arg-type]


def forge(fields: object, signer: Identity = ALICE) -> bytes:
    body = msgpack.packb(fields)
    return signer.sign(_DOMAIN + body) + body


def fields_of(sealed: bytes) -> dict[str, object]:
    fields: dict[str, object] = msgpack.unpackb(sealed[64:])
    return fields


FULL = record(
    step_seconds=0.01,
    decode_rate=80.5,
    prefill_rate=900.0,
    free_tokens=40_000,
    log_bytes=4 << 30,
    quantization="nf4",
    wire=(WireDtype.BFLOAT16, WireDtype.FLOAT32),
    device="NVIDIA GeForce RTX 3060",
    reach="relay",
    addresses=tuple(
        f"/ip4/203.0.113.{n}/tcp/40123/p2p/{MALLORY.peer_id}/p2p-circuit/p2p/{ALICE.peer_id}"
        for n in range(3)
    ),
    coordinate=(0.01, -0.02, 0.003, 0.002),
    coordinate_error=0.25,
    near=tuple((f"peer0{n}", 0.0123 * n) for n in range(8)),
    upload_rate=1.25e6,
    readers=8,
    expected_online=30.0,
    version="0.1.0",
)


def test_a_full_record_survives_and_is_small() -> None:
    """All fields come back, within 1 KiB even with three addresses through relays."""
    data = seal(FULL, ALICE)
    assert open_sealed(data, NOW) == FULL
    assert len(data) <= MAX_RECORD_BYTES
    assert len(seal(record(), ALICE)) < 300


finite = st.floats(0, 1e15)
names = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(
    st.builds(
        record,
        span=st.tuples(st.integers(0, 25), st.integers(0, 25)).map(
            lambda ends: Span(min(ends), max(ends) + 1)
        ),
        state=st.sampled_from(DonorState),
        step_seconds=finite,
        free_tokens=st.integers(0, 1 << 40),
        quantization=names,
        device=names,
        wire=st.lists(st.sampled_from(WireDtype), max_size=2).map(tuple),
        coordinate=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4).map(tuple),
    )
)
def test_any_record_survives(one: Record) -> None:
    """Whatever can be sealed is opened as it was."""
    assert open_sealed(seal(one, ALICE), NOW) == one


@given(st.binary(max_size=1100))
def test_random_bytes_are_one_error(data: bytes) -> None:
    """A stranger's bytes raise BadRecord and nothing else."""
    with pytest.raises(BadRecord):
        open_sealed(data, NOW)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*fields_of(seal(FULL, ALICE)), "?"]), anything, max_size=4))
def test_signed_nonsense_is_one_error_or_a_sound_record(changes: dict[str, object]) -> None:
    """A donor that signs wrong types or values gets BadRecord; what passes is finite and in the model."""
    data = forge(fields_of(seal(FULL, ALICE)) | changes)
    try:
        opened = open_sealed(data, NOW)
    except BadRecord:
        return
    assert opened.span.end <= opened.model.layers
    assert all(math.isfinite(number) for number in (opened.step_seconds, opened.decode_rate))
    assert NOW < opened.expires_at <= NOW + 120


@given(st.integers(0, 2000), st.integers(1, 255))
def test_one_changed_bit_is_noticed(place: int, flip: int) -> None:
    """No byte of a sealed record can be changed."""
    data = bytearray(seal(FULL, ALICE))
    data[place % len(data)] ^= flip
    with pytest.raises(BadRecord):
        open_sealed(bytes(data), NOW)


def test_forged_records_are_refused() -> None:
    """Nobody else can sign for a donor, and a donor cannot seal another's record."""
    fields = fields_of(seal(record(), ALICE))
    with pytest.raises(BadRecord, match="signature"):
        open_sealed(forge(fields, MALLORY), NOW)
    with pytest.raises(BadRecord, match="only by the peer"):
        seal(record(), MALLORY)
    taken_over = fields | {"p": public_key_of(MALLORY.peer_id)}
    assert open_sealed(forge(taken_over, MALLORY), NOW).peer_id == MALLORY.peer_id


@pytest.mark.parametrize("expires", [NOW - 1, NOW, NOW + 121, NOW + 1e9])
def test_expired_and_eternal_records_are_refused(expires: float) -> None:
    """A record counts from now to at most 120 s from now."""
    with pytest.raises(BadRecord, match="expired"):
        open_sealed(seal(record(expires_at=expires), ALICE), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"span": Span(20, 27)},
        {"device": "x" * 200},
        {"device": "two\nlines"},
        {"step_seconds": math.inf},
        {"decode_rate": math.nan},
        {"free_tokens": -1},
        {"coordinate": (math.nan,)},
        {"near": (("peer00", 0.1),) * 9},
        {"upload_rate": -1.0},
        {"addresses": ("not an address",)},
        {"addresses": tuple(f"/ip4/127.0.0.1/tcp/{n}" for n in range(9))},
        {"addresses": tuple("/dns4/" + c * 200 for c in "abcdefgh")},
    ],
)
def test_impossible_records_are_not_even_sealed(changes: dict[str, object]) -> None:
    """What a reader would refuse fails at the one who announces it."""
    with pytest.raises(BadRecord):
        seal(record(**changes), ALICE)


def test_neighbours_are_left_out_before_an_address_is() -> None:
    """A record that would be too large goes without them."""
    crowded = replace(FULL, addresses=(*FULL.addresses, FULL.addresses[0][:120]))
    assert open_sealed(seal(crowded, ALICE), NOW) == replace(crowded, near=())
    far = record(near=(("peer00", 1e9),))
    assert open_sealed(seal(far, ALICE), NOW).near == (("peer00", 6.5535),)


def test_where_a_donor_goes_travels_along() -> None:
    """With the room that it has."""
    moving = replace(record(), going=Span(18, 26), room=9 * 10**9)
    assert open_sealed(seal(moving, ALICE), NOW) == moving


@pytest.mark.parametrize(
    "going", [[], [3], [3, 3], [5, 3], [0, 27], [-1, 3], [1, 2, 3], "ab", None, [0.5, 2]]
)
def test_a_goal_outside_of_the_model_is_refused(going: object) -> None:
    """As a span is."""
    with pytest.raises(BadRecord):
        open_sealed(forge(fields_of(seal(record(), ALICE)) | {"G": going}), NOW)


def test_newer_fields_and_values_are_passed_over() -> None:
    """A newer donor's unknown field or wire dtype does not hide its record."""
    fields = fields_of(seal(record(), ALICE)) | {"new": {"deep": [1]}, "w": ["fp4", "bfloat16"]}
    assert open_sealed(forge(fields), NOW) == record(wire=(WireDtype.BFLOAT16,))


def test_expiries_follow_one_another() -> None:
    """Each announcement expires later than the one before, leaving later still, all within 120 s."""
    first = announced(record(), NOW)
    assert first.expires_at == NOW + 90
    left = withdrawn(first, NOW)
    assert left.expires_at > first.expires_at
    assert left.state == DonorState.LEAVING
    again = announced(record(), NOW, left.expires_at)
    assert again.expires_at > left.expires_at
    assert announced(record(), NOW, NOW + 1e6).expires_at < NOW + 120


def test_bands_are_those_a_span_touches() -> None:
    """Bands are 8 layers wide."""
    assert list(bands(Span(0, 8))) == [0]
    assert list(bands(Span(7, 9))) == [0, 1]
    assert list(bands(Span(16, 72))) == [2, 3, 4, 5, 6, 7, 8]
