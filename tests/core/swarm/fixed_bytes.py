"""A stream that gives prepared bytes."""

from __future__ import annotations


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def read(self, n: int) -> bytes:
        taken, self.data = self.data[:n], self.data[n:]
        return taken
