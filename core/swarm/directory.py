"""The records of a swarm in hivemind's distributed hash table.

A record lies under each band of 8 layers that its span touches, with the donor's peer id as subkey,
and once in the list of models. Readers believe the signature alone; where a record lies is only a
way to find it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgpack

from core.errors import SwarmError
from core.swarm.guard import MODELS_KEY, band_key, model_subkey
from core.swarm.identity import Identity
from core.swarm.records import (
    MAX_LIFETIME,
    MAX_RECORD_BYTES,
    BadRecord,
    announced,
    bands,
    open_sealed,
    seal,
    withdrawn,
)
from core.terms import ModelRef, PeerId, Record, Span

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 10.0
"""hivemind waits 3 s for each peer, and for ever where an answer confuses it."""


class DhtDirectory:
    """The directory of one peer, of use once it was given a node."""

    def __init__(self, identity: Identity, clock: Callable[[], float] = time.time) -> None:
        self._given: Any = None
        self._client_only = True
        self._identity, self._clock = identity, clock
        self._sealed: dict[tuple[PeerId, ModelRef], tuple[Record, bytes]] = {}
        self._lies_in: dict[bytes, float] = {}
        """Keys under which an own record was stored, and when that expires."""

    def use(self, node: Any, *, client_only: bool) -> None:
        """From now on a ``DHTNode`` with the ``Opaque`` validator that caches nothing, or none for a while.
        With ``client_only`` this peer stores for nobody, itself included."""
        self._given, self._client_only = node, client_only

    @property
    def _node(self) -> Any:
        if self._given is None:
            raise SwarmError("the network process is being started again")
        return self._given

    async def announce(self, record: Record, signer: Identity | None = None) -> Record:
        now = self._clock()
        if signer is not None:
            fresh = announced(record, now)
            if await self._store(fresh, with_list=True, signer=signer):
                return fresh
            raise SwarmError("no peer of the swarm took a record of this PC")
        fresh = announced(record, now, max(self._lies_in.values(), default=0.0))
        if await self._store(fresh, with_list=True):
            return fresh
        # Perhaps a *leaving* of this donor's last life, which expires later, is still there.
        fresh = announced(record, now, now + MAX_LIFETIME)
        if await self._store(fresh, with_list=True):
            return fresh
        raise SwarmError("no peer of the swarm took this PC's record", "It is tried again by itself.")

    async def withdraw(self, record: Record, signer: Identity | None = None) -> Record:
        leaving = withdrawn(record, self._clock())
        if not await self._store(leaving, with_list=False, signer=signer):
            raise SwarmError("no peer of the swarm took word that this PC leaves")
        return leaving

    async def read(self, model: ModelRef, layers: Span | None = None) -> tuple[Record, ...]:
        wanted = set(bands(layers or Span(0, model.layers)))
        newest: dict[PeerId, tuple[Record, bytes]] = {}
        for subkey, data, record in self._verified(await self._get([band_key(model, b) for b in wanted])):
            if record.model != model or record.peer_id != subkey:
                continue
            known = newest.get(record.peer_id)
            if known is None or record.expires_at > known[0].expires_at:
                newest[record.peer_id] = record, data
        # A donor that has moved overwrites its entries in the bands it has left.
        found = [entry for entry in newest.values() if wanted & set(bands(entry[0].span))]
        self._remember(found)
        return tuple(record for record, _ in found)

    async def models(self) -> tuple[ModelRef, ...]:
        entries = self._verified(await self._get([MODELS_KEY]))
        return tuple(dict.fromkeys(record.model for _, _, record in entries))

    def sealed(self, record: Record) -> bytes:
        known = self._sealed.get((record.peer_id, record.model))
        if known is None:
            raise SwarmError("this record was neither announced nor read here")
        return known[1]

    async def _store(self, record: Record, with_list: bool, signer: Identity | None = None) -> bool:
        """True if at least one peer took it under at least one key."""
        data, now = seal(record, signer or self._identity), self._clock()
        self._lies_in = {key: end for key, end in self._lies_in.items() if end > now}
        touched = {band_key(record.model, band) for band in bands(record.span)}
        keys_of = touched if signer else touched | set(self._lies_in)
        entries: list[tuple[bytes, str]] = [(key, record.peer_id) for key in keys_of]
        if with_list:
            # One entry a model, not a donor: whoever announced last stands for it.
            entries.append((MODELS_KEY, model_subkey(record.model)))
        keys, subkeys = zip(*entries, strict=True)
        try:
            node = self._node
            async with asyncio.timeout(_ANSWER_SECONDS):
                with node.protocol.placing():
                    stored = await node.store_many(
                        list(keys),
                        [data] * len(keys),
                        record.expires_at,
                        subkeys=list(subkeys),
                        exclude_self=self._client_only,
                    )
        except TimeoutError:
            return False
        taken = {key for key, subkey in entries if stored[key, subkey] and subkey == record.peer_id}
        if taken and not signer:
            self._lies_in |= dict.fromkeys(taken, record.expires_at)
            self._remember([(record, data)])
        return bool(taken)

    async def _get(self, keys: Collection[bytes]) -> Iterable[tuple[object, bytes]]:
        """All (subkey, bytes) under the keys, unchecked."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await self._node.get_many(list(keys), sufficient_expiration_time=math.inf)
        except TimeoutError:
            raise SwarmError("the swarm's directory does not answer", "Check the network.") from None
        dictionaries = (entry.value for entry in found.values() if entry is not None)
        return [
            (subkey, value.value)
            for entries in dictionaries
            if isinstance(entries, dict)
            for subkey, value in entries.items()
        ]

    def _verified(self, entries: Iterable[tuple[object, bytes]]) -> list[tuple[object, bytes, Record]]:
        now, good = self._clock(), []
        for subkey, data in entries:
            try:
                good.append((subkey, data, open_sealed(data, now)))
            except BadRecord as error:  # hides nothing but itself
                log.debug("ignored a record: %s", error)
        return good

    def _remember(self, entries: Iterable[tuple[Record, bytes]]) -> None:
        now = self._clock()
        self._sealed = {key: known for key, known in self._sealed.items() if known[0].expires_at > now}
        self._sealed |= {(record.peer_id, record.model): (record, data) for record, data in entries}


class Opaque:
    """hivemind's record validator, used to keep its hands off the values.

    It decodes each value with msgpack when it is read, and one that does not decode leaves the
    reader waiting for ever. With this the bytes travel as they are and are handed over as they are.
    Nothing but small entries with subkeys is taken: a plain value under a key would replace them all.
    """

    def sign_value(self, record: Any) -> bytes:
        value: bytes = msgpack.unpackb(record.value)
        return value

    def strip_value(self, record: Any) -> bytes:
        packed: bytes = msgpack.packb(record.value)
        return packed

    def validate(self, record: Any) -> bool:
        """Subkeys are text: hivemind sorts them, and one number among them stops it from storing."""
        return _is_packed_text(record.subkey) and len(record.value) <= MAX_RECORD_BYTES


def _is_packed_text(data: bytes | None) -> bool:
    try:
        return isinstance(msgpack.unpackb(data), str)
    except (ValueError, TypeError, msgpack.UnpackException):
        return False
