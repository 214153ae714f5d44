"""What a node is given along on its standard input."""

from __future__ import annotations

import os

import pytest

from core.errors import UserError
from core.handover import LIMIT, Handed, line, read
from core.secrets import Secret

TOKEN = "a token of a good length"


def given(raw: bytes) -> tuple[Handed, bytes]:
    """What is read of it, and what is left there."""
    reads, writes = os.pipe()
    try:
        os.write(writes, raw)
        os.close(writes)
        return read(reads), os.read(reads, 100)
    finally:
        os.close(reads)


def test_the_first_line_alone_is_read() -> None:
    """Token, settings and secrets arrive; what follows stays for who watches for the end."""
    handed = Handed(TOKEN, {"donate": "always", "model": "bloomz-560m"}, {Secret.HUB_TOKEN: "hf_x"})
    assert given(line(handed) + b"more") == (handed, b"more")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"token": "short", "settings": {}}\n',
        b'{"token": 1, "settings": {}}\n',
        b'{"token": "' + TOKEN.encode() + b'"}\n',
        b'{"token": "' + TOKEN.encode() + b'", "settings": []}\n',
        b'{"token": "' + TOKEN.encode() + b'", "settings": {}, "secrets": {"root": "x"}}\n',
        b'{"token": "' + TOKEN.encode() + b'", "settings": {}, "secrets": []}\n',
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    """No line, no JSON, a token that could be guessed: an error, and no node."""
    with pytest.raises(UserError, match="standard input"):
        given(raw)


def test_it_is_of_a_bounded_size() -> None:
    """A line without an end is not read for ever."""
    with pytest.raises(UserError):
        given(b" " * (LIMIT - 1) + b"x")


def test_nothing_secret_is_shown() -> None:
    """Neither in a traceback nor in a log."""
    shown = repr(Handed(TOKEN, secrets={Secret.SWARM: "of-friends"}))
    assert TOKEN not in shown and "of-friends" not in shown
