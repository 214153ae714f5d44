"""What the program that starts a node gives it along: one line of JSON on standard input.

Where the node cannot leave a door file for its owner, as inside Windows' Linux, the owner chooses the door's
token; and what was set before there was a node comes with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.errors import UserError

LIMIT = 1 << 16
LEAST = 16
"""Characters of a token: fewer could be guessed."""


@dataclass(frozen=True)
class Handed:
    token: str = field(default="", repr=False)
    settings: Mapping[str, object] = field(default_factory=dict)


def line(handed: Handed) -> bytes:
    return json.dumps({"token": handed.token, "settings": dict(handed.settings)}).encode() + b"\n"


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
    match said:
        case {"token": str(token), "settings": dict(settings)} if len(token) >= LEAST and token.isascii():
            return Handed(token, settings)
    raise UserError("--handover needs a line of JSON on standard input with a token and settings")
