"""Records as bytes: what a donor signs, and what a reader believes.

A sealed record is ``signature (64 bytes) | body``, the body a msgpack map of one-letter keys. The
signature covers the wire version and the body, which names the peer, the model, the span and the
expiry: with them it fixes every DHT key, subkey and expiry under which the record may lie. So a
sealed record proves itself wherever it is found, in the DHT or inside a message.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, TypeVar

import msgpack

from core.errors import SwarmError
from core.swarm.identity import SIGNATURE_BYTES, Identity, peer_id_of, public_key_of, verify
from core.terms import NEAR_NAME, DonorState, ModelRef, PeerId, Record, Span, WireDtype

WIRE_VERSION = 2
MAX_RECORD_BYTES = 1024
MAX_LIFETIME = 120.0
"""Seconds from now beyond which no record's expiry may lie."""
LIFETIME = 90.0
"""Seconds for which an announced record is valid."""
BAND_LAYERS = 8

_DOMAIN = b"idlebloom record %d\n" % WIRE_VERSION
_CLOCK_SLACK = 5.0  # a reader's clock may be a little behind
_MAX_LAYERS = 4096
_MAX_TEXT = 128
_MAX_ADDRESS = 256
_MAX_ADDRESSES = 8
_MAX_COORDINATE = 8
_MAX_NUMBER = 1e15
MAX_NEAR = 8
_NEAR = struct.Struct(f">{NEAR_NAME}sH")
_NEAR_SECONDS = 1e-4  # the unit of a round trip that a neighbour was measured at
_STATES = {DonorState.JOINING: "j", DonorState.ONLINE: "o", DonorState.LEAVING: "l"}
_STATE_OF = {letter: state for state, letter in _STATES.items()}
# What has a default travels only where it differs from it.
_NUMBERS = {
    "d": "step_seconds",
    "e": "decode_rate",
    "f": "prefill_rate",
    "i": "expected_online",
    "u": "upload_rate",
}
_COUNTS = {"c": "free_tokens", "g": "log_bytes", "l": "readers", "M": "room"}
_TEXTS = {"q": "quantization", "k": "device", "h": "reach", "z": "version"}

T = TypeVar("T")


class BadRecord(SwarmError):
    """A record that is forged, damaged, expired, too large or impossible."""


def seal(record: Record, identity: Identity) -> bytes:
    """The signed bytes of this peer's own record, without its neighbours where they make it too large.
    Raises ``BadRecord`` for one that no reader would accept."""
    if record.peer_id != identity.peer_id:
        raise BadRecord("a record can be signed only by the peer it is about")
    body: bytes = msgpack.packb(_to_map(record))
    data = identity.sign(_DOMAIN + body) + body
    if len(data) > MAX_RECORD_BYTES and record.near:
        return seal(replace(record, near=()), identity)
    if len(data) > MAX_RECORD_BYTES:
        raise BadRecord(f"the record has {len(data)} bytes and may have {MAX_RECORD_BYTES}")
    _to_record(msgpack.unpackb(body))
    return data


def open_sealed(data: bytes, now: float) -> Record:
    """The record in signed bytes from anywhere; ``now`` in Unix seconds. Unknown fields are ignored.

    Raises ``BadRecord``, and nothing else, for bytes that are not a valid record.
    """
    if not isinstance(data, bytes) or not SIGNATURE_BYTES < len(data) <= MAX_RECORD_BYTES:
        raise BadRecord("not the size of a record")
    body = data[SIGNATURE_BYTES:]
    try:
        record = _to_record(msgpack.unpackb(body))
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise BadRecord("not a record") from error
    if not verify(record.peer_id, data[:SIGNATURE_BYTES], _DOMAIN + body):
        raise BadRecord("the signature is not of the peer it names")
    if not now < record.expires_at <= now + MAX_LIFETIME:
        raise BadRecord("expired, or valid for longer than is allowed")
    return record


def announced(record: Record, now: float, after: float = 0.0) -> Record:
    """The record as announced now. The DHT keeps what expires last, so this one must expire later
    than ``after``, the expiry of the one before, as far as the limit of 120 s lets it."""
    expires = min(max(now + LIFETIME, after + 0.001), now + MAX_LIFETIME - _CLOCK_SLACK)
    return replace(record, expires_at=expires)


def withdrawn(record: Record, now: float) -> Record:
    """The record that takes the place of an announced one and says *leaving*."""
    expires = min(max(record.expires_at + 0.1, now + 10.0), now + MAX_LIFETIME - _CLOCK_SLACK)
    return replace(record, state=DonorState.LEAVING, expires_at=expires)


def bands(span: Span) -> range:
    """The bands of 8 layers that a span touches."""
    return range(span.start // BAND_LAYERS, (span.end - 1) // BAND_LAYERS + 1)


def _to_map(record: Record) -> dict[str, object]:
    fields: dict[str, object] = {
        "p": public_key_of(record.peer_id),
        "m": record.model.model_id,
        "r": record.model.revision,
        "n": record.model.layers,
        "a": record.span.start,
        "b": record.span.end,
        "s": _STATES[record.state],
        "t": record.started_at,
        "x": record.expires_at,
    }
    for key, name in (_NUMBERS | _COUNTS | _TEXTS).items():
        value = getattr(record, name)
        if value != getattr(Record, name):
            fields[key] = value
    if record.wire != Record.wire:
        fields["w"] = [dtype.value for dtype in record.wire]
    if record.addresses:
        fields["A"] = list(record.addresses)
    if record.coordinate:
        fields["V"] = list(record.coordinate)
        fields["E"] = record.coordinate_error
    if record.going is not None:
        fields["G"] = [record.going.start, record.going.end]
    if record.near:
        fields["N"] = b"".join(_near_bytes(name, seconds) for name, seconds in record.near)
    return fields


def _near_bytes(name: str, seconds: float) -> bytes:
    return _NEAR.pack(name.encode("ascii"), min(round(seconds / _NEAR_SECONDS), 0xFFFF))


def _to_record(fields: Any) -> Record:
    if not isinstance(fields, dict):
        raise BadRecord("not a record")
    public_key = fields.get("p")
    if not isinstance(public_key, bytes) or len(public_key) != 32:
        raise BadRecord("no public key of 32 bytes")
    layers = _count(fields.get("n"), _MAX_LAYERS)
    start, end = _count(fields.get("a"), layers), _count(fields.get("b"), layers)
    if not start < end:
        raise BadRecord("a span that is empty or outside the model")
    optional: dict[str, Any] = {}
    for check, names in ((_number, _NUMBERS), (_count, _COUNTS), (_text, _TEXTS)):
        optional |= {name: check(fields[key]) for key, name in names.items() if key in fields}
    return Record(
        peer_id=PeerId(peer_id_of(public_key)),
        model=ModelRef(_text(fields.get("m")), _text(fields.get("r")), layers),
        span=Span(start, end),
        state=_state(fields.get("s")),
        started_at=_number(fields.get("t")),
        expires_at=_number(fields.get("x")),
        wire=_wire(fields["w"]) if "w" in fields else Record.wire,
        addresses=_several(fields.get("A", []), _address, _MAX_ADDRESSES),
        coordinate=_several(fields.get("V", []), _signed, _MAX_COORDINATE),
        coordinate_error=_number(fields.get("E", Record.coordinate_error)),
        near=_near(fields.get("N", b"")),
        going=_span(fields["G"], layers) if "G" in fields else None,
        **optional,
    )


def _span(value: object, layers: int) -> Span:
    start, end = _several(value, lambda one: _count(one, layers), 2) or (0, 0)
    if not start < end:
        raise BadRecord("a span that is empty or outside the model")
    return Span(start, end)


def _number(value: object) -> float:
    number = _signed(value)
    if number < 0:
        raise BadRecord("a negative number where none can be")
    return number


def _signed(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRecord("not a number")
    if not math.isfinite(value) or abs(value) > _MAX_NUMBER:
        raise BadRecord("a number that is not finite")
    return float(value)


def _count(value: object, largest: int = 1 << 48) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise BadRecord("not a count within its limits")
    return value


def _text(value: object, longest: int = _MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise BadRecord("not a short printable text")
    return value


def _address(value: object) -> str:
    address = _text(value, _MAX_ADDRESS)
    if not address.startswith("/") or not address.isascii() or "," in address:
        raise BadRecord("not an address")
    return address


def _state(value: object) -> DonorState:
    if not isinstance(value, str) or value not in _STATE_OF:
        raise BadRecord("a state that does not exist")
    return _STATE_OF[value]


def _near(value: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(value, bytes) or len(value) % _NEAR.size or len(value) > MAX_NEAR * _NEAR.size:
        raise BadRecord("not a short list of neighbours")
    pairs = ((_text(name.decode("ascii")), units) for name, units in _NEAR.iter_unpack(value))
    return tuple((name, round(units * _NEAR_SECONDS, 4)) for name, units in pairs)


def _wire(value: object) -> tuple[WireDtype, ...]:
    """The dtypes known here; a newer donor may list others."""
    known = {dtype.value for dtype in WireDtype}
    return tuple(WireDtype(name) for name in _several(value, _text, 16) if name in known)


def _several(value: object, check: Callable[[object], T], most: int) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise BadRecord("not a short list")
    return tuple(check(item) for item in value)


def without(record: Record, layers: Collection[int]) -> Record | None:
    """The longest part of its span that has none of these layers."""
    best, start = 0, 0
    first = record.span.start
    for layer in (*range(record.span.start, record.span.end), record.span.end):
        if layer in layers or layer == record.span.end:
            if layer - first > best:
                best, start = layer - first, first
            first = layer + 1
    return replace(record, span=Span(start, start + best)) if best else None
