"""What a peer that stores the directory for others takes, and from whom how much. Pure.

A sealed record proves itself, so all of these are refused, whoever brings them: a record under another's
name, under a key that it is not about, with an expiry other than the signed one or beyond the limit, too
large, or of no shape at all. What is old was replaced by what expires later, or has expired.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

import msgpack

from core.swarm.records import (
    BAND_LAYERS,
    MAX_RECORD_BYTES,
    WIRE_VERSION,
    BadRecord,
    open_sealed,
)
from core.terms import ModelRef, PeerId, Record

ENTRIES_A_SECOND = 40.0
"""Of one sender; and four seconds' worth at once: who hands over what it holds sends many."""
CHANGES_A_SECOND = 5.0
"""Of one donor's record under all its keys together; and half a minute's worth at once."""
ALL_A_SECOND = 1000.0
"""Of all senders together: a signature costs about 0.1 ms to check."""
REMEMBERED = 4096
"""Senders and donors whose rates are remembered."""
FULLEST = 128
"""Entries under one key; beyond this, one by chance makes room for each new one. So a crowded band shows a
sample of its donors, another one at each of those that hold it and after each announcing, and what a reader
has to read does not grow with the swarm (``benchmarks/results/directory.md``)."""


def band_key(model: ModelRef, band: int) -> bytes:
    key: bytes = msgpack.packb([WIRE_VERSION, model.model_id, model.revision, model.layers, band])
    return key


MODELS_KEY: bytes = msgpack.packb(["models", WIRE_VERSION])


def model_subkey(model: ModelRef) -> str:
    return f"{model.model_id}@{model.revision}:{model.layers}"


def place_of(key: bytes) -> bytes:
    """Where hivemind's hash table keeps a key."""
    return hashlib.sha1(key, usedforsecurity=False).digest()


@lru_cache(maxsize=256)
def _places_of(model: ModelRef) -> frozenset[bytes]:
    """Of every band of a model: a donor that moves says so in those that it has left, too."""
    return frozenset(place_of(band_key(model, band)) for band in range(-(-model.layers // BAND_LAYERS)))


def check(place: bytes, packed_subkey: bytes, value: bytes, expires: float, now: float) -> Record:
    """The record in an entry of the hash table, if all of it fits together. Raises ``BadRecord``."""
    if len(value) > MAX_RECORD_BYTES:
        raise BadRecord("not the size of a record")
    subkey = _text(packed_subkey)
    record = open_sealed(value, now)
    if expires != record.expires_at:
        raise BadRecord("an expiry other than the signed one")
    if place == place_of(MODELS_KEY):
        if subkey != model_subkey(record.model):
            raise BadRecord("another model's entry in the list of models")
    elif subkey != record.peer_id:
        raise BadRecord("a record under another's name")
    elif place not in _places_of(record.model):
        raise BadRecord("a key that the record is not about")
    return record


def _text(packed: bytes) -> str:
    try:
        text = msgpack.unpackb(packed)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise BadRecord("no subkey") from error
    if not isinstance(text, str):
        raise BadRecord("a subkey that is not text")
    return text


class Guard:
    """One storing peer's judgement. ``clock`` gives Unix time, ``steady`` seconds that never go back."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._clock, self._steady = clock, steady
        self._senders = Rates(ENTRIES_A_SECOND, 4.0)
        self._donors = Rates(CHANGES_A_SECOND, 30.0)
        self._all = Rates(ALL_A_SECOND, 2.0)

    def admits(self, sender: PeerId, entries: int) -> bool:
        """Whether this sender may bring so many entries now."""
        now = self._steady()
        return self._senders.take(sender, entries, now) and self._all.take("", entries, now)

    def takes(self, place: bytes, packed_subkey: bytes, value: bytes, expires: float) -> bool:
        """Whether an entry is to be stored."""
        try:
            record = check(place, packed_subkey, value, expires, self._clock())
        except BadRecord:
            return False
        return self._donors.take(record.peer_id, 1, self._steady())


class Rates:
    """How much each of many has done lately: ``rate`` a second, ``burst`` seconds' worth at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str, count: int, now: float) -> bool:
        """True, and counted, if it is within the rate."""
        full = self._rate * self._burst
        left, at = self._left.pop(who, (full, now))
        left = min(full, left + self._rate * max(0.0, now - at))
        fits = count <= left
        self._left[who] = (left - count if fits else left), now
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return fits
