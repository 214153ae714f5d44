"""A word to systemd, where it started this process and waits for one (``Type=notify``)."""

from __future__ import annotations

import os
import socket


def ready(url: str) -> bool:
    """Says that the node is up. ``False`` where nobody waits, or nobody hears."""
    return _say(f"READY=1\nSTATUS=The chat page is at {url}\n")


def _say(words: str) -> bool:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            speaker.sendto(words.encode(), address)
    except OSError:
        return False  # the node is up all the same
    return True
