"""What the program that starts a node gives it along: one line of JSON on standard input.

Where the node cannot leave a door file for its owner, as inside Windows' Linux, the owner chooses the door's
token. What was set before there was a node comes with it, and so do the secrets that Windows' keyring has.
A secret that is changed while the node runs goes back as a line on its standard output.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.errors import UserError
from core.secrets import Secret, checked

LIMIT = 1 << 16
LEAST = 16
"""Characters of a token: fewer could be guessed."""


@dataclass(frozen=True)
class Handed:
    token: str = field(default="", repr=False)
    settings: Mapping[str, object] = field(default_factory=dict)
    secrets: Mapping[Secret, str | None] = field(default_factory=dict, repr=False)


def line(handed: Handed) -> bytes:
    """For ``read``."""
    said = {"token": handed.token, "settings": dict(handed.settings), "secrets": dict(handed.secrets)}
    return json.dumps(said).encode() + b"\n"


def handed_back(changes: Mapping[Secret, str | None]) -> str:
    """The line that tells whoever started the node to keep these."""
    return json.dumps({"secrets": dict(changes)})


def read(source: int = 0) -> Handed:
    """The line that comes first. What follows is left there, for whoever watches for its end. Raises
    ``UserError``."""
    raw = b""
    while not raw.endswith(b"\n") and len(raw) < LIMIT:
        byte = os.read(source, 1)
        if not byte:
            break
        raw += byte
    try:
        said = json.loads(raw)
    except ValueError:
        said = None
    try:
        match said:
            case {"token": str(token), "settings": dict(settings)} if len(token) >= LEAST and token.isascii():
                return Handed(token, settings, checked(said.get("secrets", {})))
    except ValueError:
        pass  # of the secrets: said without them
    raise UserError("--handover needs a line of JSON on standard input with a token, settings and secrets")
