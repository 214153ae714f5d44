"""hivemind's protocol of the hash table, as our peers speak it. Imported late: it brings hivemind along.

Three things are ours. What others ask to be stored is judged entry by entry (``core.swarm.guard``), and a bad
one is left out alone: hivemind would refuse, or fail to read, all that lies beside it. In a private swarm
every request and every answer carries a proof of the secret. And the name under which it is offered is ours,
so that no other swarm's peers wander in.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import hivemind.dht.node
from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import P2PContext
from hivemind.proto import dht_pb2

from core.swarm.guard import FULLEST, Guard
from core.swarm.secret import Secret, nonce
from core.terms import PeerId

log = logging.getLogger(__name__)

MOST_KEYS = 4096
"""Keys that are kept for others; beyond this those go that expire first."""
_placing: ContextVar[bool] = ContextVar("placing", default=False)
"""Whether only those who hold a key are looked for, not what they hold."""
_storing: ContextVar[bool] = ContextVar("storing", default=False)
"""Whether what is judged now is to be stored for others, or was found by us: readers judge for themselves."""


class Refusal(Exception):
    """Told to who called; hivemind sends its text and nothing else."""


class IdlebloomDHT(DHTProtocol):  # type: ignore[misc]
    """``secret`` and ``guard`` are set by ``make_node``."""

    _rpc_handlers = None  # else hivemind would offer its own protocol's
    _stub_type = None
    secret: Secret | None = None
    guard: Guard

    # Answering

    async def rpc_ping(self, request: dht_pb2.PingRequest, context: P2PContext) -> dht_pb2.PingResponse:
        self._check(b"rpc_ping", request, context)
        return self._signed(b"rpc_ping", request, await super().rpc_ping(request, context), context)

    async def rpc_store(self, request: dht_pb2.StoreRequest, context: P2PContext) -> dht_pb2.StoreResponse:
        self._check(b"rpc_store", request, context)
        lists = (request.keys, request.subkeys, request.values, request.expiration_time, request.in_cache)
        if len({len(entries) for entries in lists}) != 1:
            raise Refusal("keys and values do not fit together")
        if not self.guard.admits(PeerId(context.remote_id.to_base58()), len(request.keys)):
            raise Refusal("too much to store in too short a time")
        for index in range(len(request.in_cache)):  # a cache would keep what was never judged
            request.in_cache[index] = False
        mark = _storing.set(True)
        try:
            answer = await super().rpc_store(request, context)
        finally:
            _storing.reset(mark)
        return self._signed(b"rpc_store", request, answer, context)

    async def rpc_find(self, request: dht_pb2.FindRequest, context: P2PContext) -> dht_pb2.FindResponse:
        self._check(b"rpc_find", request, context)
        return self._signed(b"rpc_find", request, await super().rpc_find(request, context), context)

    # Asking

    async def meet(self, peer: Any) -> float | None:
        """Says hello, so that both know each other from now on. How many seconds this PC's clock is behind
        the other's, as far as that can be told; None where nobody answers."""
        asked, started = time.time(), time.monotonic()
        try:
            request = dht_pb2.PingRequest(peer=self.node_info)
            answer = await self.get_stub(peer).rpc_ping(request, timeout=self.wait_timeout)
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001 - hivemind raises whatever its parts raise
            log.debug("meeting %s: %r", peer, error)
            return None
        took = time.monotonic() - started
        if answer.peer.node_id:
            known = type(self.node_id).from_bytes(answer.peer.node_id)
            await self.update_routing_table(known, peer, responded=True)
        behind: float = answer.dht_time - (asked + took / 2)
        unsure = took / 2
        return behind - unsure if behind > unsure else min(behind + unsure, 0.0)

    @staticmethod
    @contextmanager
    def placing() -> Iterator[None]:
        """Who stores meanwhile does not read along what lies there: hivemind sends it to whoever looks for a
        key's holders, which in a large swarm is far more than what is stored."""
        mark = _placing.set(True)
        try:
            yield
        finally:
            _placing.reset(mark)

    async def call_find(self, peer: Any, keys: Any) -> Any:
        """A peer may say of a dictionary that it is valid for ever, and hivemind would look no further: only
        what its entries say counts."""
        # The last bit off: the same peers are nearest, and nothing lies there.
        aside = {type(key)(int(key) ^ 1): key for key in keys} if _placing.get() else {}
        found = await super().call_find(peer, aside or keys)
        if found is None:
            return None
        if aside:
            return {aside[key]: (None, nearest) for key, (_, nearest) in found.items()}
        return {key: (_as_its_entries_say(value), nearest) for key, (value, nearest) in found.items()}

    def get_stub(self, peer: Any) -> Any:
        stub = super().get_stub(peer)
        return stub if self.secret is None else _Proving(self, stub, peer)

    # Judging

    def _validate_record(self, key: bytes, subkey: bytes, value: bytes, expires: float) -> bool:
        """Of an entry that somebody wants stored, or that was found."""
        if not _storing.get():
            return bool(super()._validate_record(key, subkey, value, expires))
        if self._has_newer(key, subkey, expires) or not self.guard.takes(key, subkey, value, expires):
            return False
        self._make_room(key, subkey)
        return True

    def _validate_dictionary(self, key: bytes, dictionary: DictionaryDHTValue) -> bool:
        """Leaves out what is bad, instead of refusing the good beside it."""
        for subkey, (value, expires) in list(dictionary.items()):
            try:
                good = self._validate_record(key, self.serializer.dumps(subkey), value, expires)
            except (TypeError, ValueError):
                good = False
            if not good:
                del dictionary[subkey]
        dictionary.latest_expiration_time = max(
            (entry.expiration_time for _, entry in dictionary.items()), default=float("-inf")
        )
        return True

    def _has_newer(self, key: bytes, packed_subkey: bytes, expires: float) -> bool:
        """What is played again costs its donor nothing of what it may store."""
        held = self._held(key)
        known = held.get(self.serializer.loads(packed_subkey)) if held and packed_subkey else None
        return known is not None and known.expiration_time >= expires

    def _make_room(self, key: bytes, packed_subkey: bytes) -> None:
        held = self._held(key)
        if held is not None and len(held) >= FULLEST:
            subkeys = [subkey for subkey, _ in held.items()]
            if self.serializer.loads(packed_subkey) not in subkeys:
                del held[random.choice(subkeys)]

    def _held(self, key: bytes) -> DictionaryDHTValue | None:
        found = self.storage.get(type(self.node_id).from_bytes(key))
        return found.value if found is not None and isinstance(found.value, DictionaryDHTValue) else None

    # Proofs

    def _check(self, method: bytes, request: Any, context: P2PContext) -> None:
        """Before anything else is done for a peer of a private swarm. Requests are not told apart by age:
        only who made one could send it again, for libp2p says who sends."""
        if self.secret is None:
            return
        proof, request.auth.signature = request.auth.signature, b""
        ends = _ends(context.remote_id, context.local_id)
        if not self.secret.proves(proof, b"asked", method, *ends, _bytes(request)):
            log.debug("refused %s to a peer without the secret: %s", method, context.remote_id)
            raise Refusal("this swarm is private")

    def _signed(self, method: bytes, request: Any, answer: Any, context: P2PContext) -> Any:
        if self.secret is not None:
            answer.auth.nonce = request.auth.nonce
            ends = _ends(context.remote_id, context.local_id)
            answer.auth.signature = self.secret.proof(b"answered", method, *ends, _bytes(answer))
        return answer


class _Proving:
    """A stub whose requests carry a proof, and whose answers must."""

    def __init__(self, protocol: IdlebloomDHT, stub: Any, peer: Any) -> None:
        self._protocol, self._stub, self._peer = protocol, stub, peer

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, name)

    async def _call(self, name: str, request: Any, timeout: float | None = None) -> Any:
        secret = self._protocol.secret
        assert secret is not None
        ends = _ends(self._protocol.p2p.peer_id, self._peer)
        request.auth.nonce = nonce()
        request.auth.signature = secret.proof(b"asked", name.encode(), *ends, _bytes(request))
        answer = await getattr(self._stub, name)(request, timeout=timeout)
        proof, answer.auth.signature = answer.auth.signature, b""
        said = (b"answered", name.encode(), *ends, _bytes(answer))
        if answer.auth.nonce != request.auth.nonce or not secret.proves(proof, *said):
            raise Refusal("it does not know the secret of this private swarm")
        return answer


def _as_its_entries_say(found: Any) -> Any:
    if found is None or not isinstance(found.value, DictionaryDHTValue) or not found.value:
        return None
    return type(found)(found.value, found.value.latest_expiration_time)


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _ends(asking: Any, answering: Any) -> tuple[bytes, bytes]:
    return asking.to_base58().encode(), answering.to_base58().encode()


async def make_node(secret: Secret | None, p2p: Any, **arguments: Any) -> Any:
    """A ``DHTNode`` that speaks as said above, and has met nobody yet."""

    class Ours(IdlebloomDHT):
        _rpc_handlers = None
        _stub_type = None

    Ours.__name__ = IdlebloomDHT.__name__
    Ours.secret, Ours.guard = secret, Guard(time.time, time.monotonic)
    # It names its protocol as a global, which it looks up before it first waits for anything.
    hivemind.dht.node.DHTProtocol = Ours
    # By default it gets a new id each time: then others keep a peer that was started again under each of its
    # old ids, store everything there as often, and take the refusals of the copies for an answer.
    node_id = DHTID.generate(source=p2p.peer_id.to_bytes())
    node = await hivemind.dht.node.DHTNode.create(p2p=p2p, node_id=node_id, **arguments)
    node.protocol.storage.maxsize = MOST_KEYS
    return node
