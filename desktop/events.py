"""Server-sent events from bytes as they arrive. Pure: no sockets."""

from __future__ import annotations

LIMIT = 1 << 20
"""The longest event that is believed: a status is a few kilobytes."""


class Events:
    """Feed it what was read; it returns the data of each event that is complete by then."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, read: bytes) -> list[str]:
        """Raises ``ValueError`` for an event without end."""
        *whole, self._rest = (self._rest + read).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > LIMIT:
            raise ValueError("an event without end")
        return [data for event in whole if (data := _data(event))]


def _data(event: bytes) -> str:
    lines = event.decode("utf-8", errors="replace").split("\n")
    return "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
