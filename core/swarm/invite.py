"""Links into a swarm: ``idlebloom://join/1?meet=…&model=…&secret=…&check=…``. Pure.

A link is passed on in mails and chats, where it may be cut short or have its end eaten by a comma, so it ends
in a checksum; and it may come from anybody, so all of it is checked before any of it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from core.errors import UserError
from core.swarm.addresses import BadAddress, split_peer
from core.swarm.identity import BadPeerId, public_key_of
from core.swarm.secret import Secret

SCHEME = "idlebloom"
VERSION = "1"
LONGEST = 4096
MOST_MEETING_POINTS = 16
_CHECK_LETTERS = 8
_ASK = "Ask whoever sent it for a new one: idlebloom invite makes it."


class BadLink(UserError):
    """A text that is no link into a swarm, or no longer one."""


@dataclass(frozen=True)
class Invite:
    """``secret`` is None for a swarm that is open to all."""

    meeting_points: tuple[str, ...]
    model: str
    secret: Secret | None

    @property
    def link(self) -> str:
        pairs = [*(("meet", address) for address in self.meeting_points), ("model", self.model)]
        if self.secret is not None:
            pairs.append(("secret", self.secret.text))
        text = f"{SCHEME}://join/{VERSION}?" + "&".join(f"{k}={quote(v, safe='/@')}" for k, v in pairs)
        return f"{text}&check={_check(text)}"

    @classmethod
    def from_link(cls, text: str) -> Invite:
        """Raises ``BadLink``."""
        link = text.strip().strip("<>\"'")
        if len(link) > LONGEST or not link.isprintable() or not link.isascii():
            raise BadLink("this is no link into a swarm", _ASK)
        try:
            parts = urlsplit(link)
            pairs = parse_qsl(parts.query, strict_parsing=True, max_num_fields=MOST_MEETING_POINTS + 3)
        except ValueError as error:
            raise BadLink("this is no link into a swarm", _ASK) from error
        if parts.scheme != SCHEME or parts.netloc != "join":
            raise BadLink(f"a link into a swarm begins with {SCHEME}://join/", _ASK)
        if parts.path != f"/{VERSION}":
            raise BadLink("this link is of another version of Idlebloom", "Install the newest version.")
        body, found, check = link.rpartition("&check=")
        if not found or check != _check(body):
            raise BadLink("this link is damaged or was cut short", f"Copy all of it. {_ASK}")
        return cls._of(pairs)

    @classmethod
    def _of(cls, pairs: Sequence[tuple[str, str]]) -> Invite:
        meet = tuple(dict.fromkeys(value for name, value in pairs if name == "meet"))
        single = {name: value for name, value in pairs if name != "meet"}
        model = single.get("model", "")
        if not meet or not model.isprintable() or not model.strip() or len(model) > 256:
            raise BadLink("this link names no meeting point or no model", _ASK)
        if model.startswith(("/", "~", ".")):
            raise BadLink("this link names a folder of another PC as the model", _ASK)
        try:
            for address in meet:
                _, peer_id = split_peer(address)
                public_key_of(peer_id)
        except (BadAddress, BadPeerId) as error:
            raise BadLink("this link names a meeting point that cannot be one", _ASK) from error
        try:
            secret = Secret.from_text(single["secret"]) if "secret" in single else None
        except ValueError as error:
            raise BadLink("this link holds no secret of a swarm", _ASK) from error
        return cls(meet, model, secret)


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_CHECK_LETTERS]
