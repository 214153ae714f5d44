"""Who a peer is: an Ed25519 key in a file that libp2p's daemon reads too.

For such keys the peer id contains the public key whole (libp2p's *identity multihash*), so that
anybody can check a signature who knows the peer id.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.errors import SwarmError
from core.terms import PeerId

log = logging.getLogger(__name__)

SIGNATURE_BYTES = 64
_KEY_BYTES = 32
# libp2p's protobuf PrivateKey { type: Ed25519, data: 64 bytes of seed and public key }
_FILE_PREFIX = bytes.fromhex("08011240")
# multihash "identity" of 36 bytes, holding the protobuf PublicKey { type: Ed25519, data: 32 bytes }
_ID_PREFIX = bytes.fromhex("002408011220")
_MAX_BASE58 = 64  # turning text into a number takes quadratic time, so it is bounded first
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class BadPeerId(SwarmError):
    """Text that is not the peer id of an Ed25519 key."""


@dataclass(frozen=True)
class Identity:
    """A key pair, and the peer id that follows from it."""

    peer_id: PeerId
    seed: bytes = field(repr=False)
    _key: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def make(cls) -> Identity:
        return cls.from_seed(secrets.token_bytes(_KEY_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte seed; raises ``ValueError`` for another length."""
        key = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(peer_id_of(key.public_key().public_bytes_raw()), seed, key)

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return self._key.sign(data)

    def to_file_bytes(self) -> bytes:
        return _FILE_PREFIX + self.seed + public_key_of(self.peer_id)


def verify(peer_id: PeerId, signature: bytes, data: bytes) -> bool:
    """True if the owner of ``peer_id`` signed ``data``. Never raises for what a stranger sent."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key_of(peer_id)).verify(signature, data)
    except (InvalidSignature, BadPeerId, ValueError):
        return False
    return True


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of a raw 32-byte public key, in base58."""
    return PeerId(base58_encode(_ID_PREFIX + public_key))


@lru_cache(maxsize=4096)
def public_key_of(peer_id: PeerId) -> bytes:
    """The raw 32-byte public key in a peer id; raises ``BadPeerId``."""
    try:
        data = base58_decode(peer_id)
    except ValueError as error:
        raise BadPeerId("a peer id that is not base58") from error
    if not data.startswith(_ID_PREFIX) or len(data) != len(_ID_PREFIX) + _KEY_BYTES:
        raise BadPeerId("a peer id that is not of an Ed25519 key")
    return data[len(_ID_PREFIX) :]


def base58_encode(data: bytes) -> str:
    number, letters = int.from_bytes(data), []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_BASE58[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))


def base58_decode(text: str) -> bytes:
    """The bytes of a peer id in base58; raises ``ValueError``."""
    if len(text) > _MAX_BASE58:
        raise ValueError("too long for a peer id")
    number = 0
    for letter in text:
        number = number * 58 + _BASE58.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)


def load_identity(path: Path) -> Identity:
    """The identity in the file; one is made where there is none. A broken file is kept aside.

    Raises ``SwarmError`` if the file can be neither read nor made.
    """
    try:
        if path.exists():
            identity = _parse(path.read_bytes())
            if identity is not None:
                path.chmod(0o600)
                return identity
            _keep_aside(path)
        return _create(path)
    except OSError as error:
        raise SwarmError(
            f"the identity file {path} cannot be used: {error.strerror or error}",
            "Check that the folder exists and belongs to you.",
        ) from error


def _parse(data: bytes) -> Identity | None:
    if len(data) != len(_FILE_PREFIX) + 2 * _KEY_BYTES or not data.startswith(_FILE_PREFIX):
        return None
    identity = Identity.from_seed(data[len(_FILE_PREFIX) : -_KEY_BYTES])
    return identity if identity.to_file_bytes() == data else None


def _keep_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.broken-{int(time.time())}")
    os.replace(path, aside)
    log.warning("the identity file %s was damaged: it is kept as %s and a new one is made", path, aside.name)


def _create(path: Path) -> Identity:
    """Writes a new identity; when two processes race for one path, both end up with the same."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity = Identity.make()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(identity.to_file_bytes())
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        winner = _parse(path.read_bytes())
        if winner is None:
            raise
        return winner
    finally:
        draft.unlink()
    return identity
