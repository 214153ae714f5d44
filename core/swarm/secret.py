"""Proofs that a peer knows the secret of a private swarm, without saying it.

libp2p has authenticated who is at the other end before a byte of ours is read. A proof is an HMAC over both
peer ids, so that nobody else's proof can be passed on, and over what both sides have just drawn by chance,
so that none can be played again. Private swarms only: where there is no secret, nothing of this is sent.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass, field

from core.errors import SwarmError
from core.swarm.peer import Stream
from core.terms import PeerId

SECRET_BYTES = 32
NONCE_BYTES = 32
PROOF_BYTES = 32
_DOMAIN = b"idlebloom private swarm 1\n"


class NotAMember(SwarmError):
    """The other side does not know the secret."""


@dataclass(frozen=True)
class Secret:
    """What the members of a private swarm share: 32 bytes drawn by chance."""

    key: bytes = field(repr=False)

    @classmethod
    def make(cls) -> Secret:
        return cls(secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def from_text(cls, text: str) -> Secret:
        """From its 43 letters; raises ``ValueError`` for any other text, such as one cut short."""
        try:
            key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError) as error:
            raise ValueError("not a secret of a swarm") from error
        if len(key) != SECRET_BYTES or cls(key).text != text:
            raise ValueError("not a secret of a swarm")
        return cls(key)

    @property
    def text(self) -> str:
        return base64.urlsafe_b64encode(self.key).rstrip(b"=").decode("ascii")

    def proof(self, *said: bytes) -> bytes:
        """Of having the secret, about exactly these parts in this order."""
        told = b"".join(len(part).to_bytes(4, "big") + part for part in said)
        return hmac.digest(self.key, _DOMAIN + told, "sha256")

    def proves(self, proof: bytes, *said: bytes) -> bool:
        return hmac.compare_digest(proof, self.proof(*said))


def nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


async def prove(stream: Stream, secret: Secret, me: PeerId, protocol: str) -> None:
    """The dialling side, before it sends anything else. Raises ``NotAMember``, or ``StreamClosed``."""
    mine = nonce()
    stream.write(mine)
    theirs = await stream.read(NONCE_BYTES)
    proof = await stream.read(PROOF_BYTES)
    said = _said(protocol, me, stream.remote, mine, theirs)
    if not secret.proves(proof, b"accepted", *said):
        raise NotAMember("it does not know the secret of this private swarm")
    stream.write(secret.proof(b"dialled", *said))


async def demand(stream: Stream, secret: Secret, me: PeerId, protocol: str) -> None:
    """The accepting side, before it reads anything else. Raises ``NotAMember``, or ``StreamClosed``."""
    theirs, mine = await stream.read(NONCE_BYTES), nonce()
    said = _said(protocol, stream.remote, me, theirs, mine)
    stream.write(mine, secret.proof(b"accepted", *said))
    if not secret.proves(await stream.read(PROOF_BYTES), b"dialled", *said):
        raise NotAMember("it does not know the secret of this private swarm")


def _said(
    protocol: str, dialler: PeerId, acceptor: PeerId, its_nonce: bytes, our_nonce: bytes
) -> tuple[bytes, ...]:
    return protocol.encode(), dialler.encode(), acceptor.encode(), its_nonce, our_nonce
