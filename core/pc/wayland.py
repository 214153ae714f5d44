"""Wayland's ext-idle-notify-v1: a compositor tells when there has been no input for a second, and when there
is again. It honours inhibitors: while a film keeps the screen awake, nobody is idle.

The protocol needs five requests, written here by hand: a library would bring a compositor's worth of code.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import time
from pathlib import Path
from typing import ClassVar, Self

from core.pc.source import Reading, Unreadable

QUIET_SECONDS = 1.0
"""How long without input the compositor is asked to tell of."""
DISPLAY, REGISTRY, CALLBACK, SEAT, NOTIFIER, NOTIFICATION = range(1, 7)
"""Our numbers of the objects."""


class WaylandIdle:
    every: ClassVar[float] = 0.1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._globals: dict[str, tuple[int, int]] = {}
        self._idle_since: float | None = None

    @classmethod
    def open(cls) -> Self | None:
        """Present where the compositor offers it."""
        name = os.environ.get("WAYLAND_DISPLAY", "")
        path = Path(os.environ.get("XDG_RUNTIME_DIR", "/")) / name
        if not name or not path.exists():
            return None
        made = cls(path)
        try:
            made._connect()
        except Unreadable:
            return None
        return made

    def read(self) -> Reading:
        if self._socket is None:
            self._connect()
        self._take(0.0)
        since = self._idle_since
        return {"idle_seconds": 0.0 if since is None else QUIET_SECONDS + time.monotonic() - since}

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        self._buffer, self._globals, self._idle_since = b"", {}, None
        try:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(2.0)
            self._socket.connect(str(self._path))
        except OSError as error:
            self.close()
            raise Unreadable(f"the compositor does not answer: {error}") from error
        self._send(DISPLAY, 1, struct.pack("=I", REGISTRY))
        self._send(DISPLAY, 0, struct.pack("=I", CALLBACK))
        self._take(2.0)
        try:
            seat, notifier = self._globals["wl_seat"], self._globals["ext_idle_notifier_v1"]
        except KeyError as missing:
            self.close()
            raise Unreadable(f"the compositor has no {missing}") from None
        self._bind(seat[0], "wl_seat", SEAT)
        self._bind(notifier[0], "ext_idle_notifier_v1", NOTIFIER)
        self._send(NOTIFIER, 1, struct.pack("=III", NOTIFICATION, int(QUIET_SECONDS * 1000), SEAT))

    def _bind(self, name: int, interface: str, number: int) -> None:
        text = interface.encode() + b"\0"
        padded = text + b"\0" * (-len(text) % 4)
        self._send(REGISTRY, 0, struct.pack("=II", name, len(text)) + padded + struct.pack("=II", 1, number))

    def _send(self, number: int, opcode: int, body: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.sendall(struct.pack("=II", number, (len(body) + 8) << 16 | opcode) + body)
        except OSError as error:
            self.close()
            raise Unreadable(f"the compositor does not answer: {error}") from error

    def _take(self, wait: float) -> None:
        """What has come; with ``wait``, until the compositor has told all that it offers."""
        end, synced = time.monotonic() + wait, False
        while self._socket is not None and not synced:
            ready, _, _ = select.select([self._socket], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                break
            synced = self._receive()
        if wait and not synced:
            self.close()
            raise Unreadable("the compositor does not answer")

    def _receive(self) -> bool:
        assert self._socket is not None
        try:
            # Files come along with some messages; those not taken would count against our limit.
            data, files, _, _ = socket.recv_fds(self._socket, 65536, 16)
        except OSError as error:
            self.close()
            raise Unreadable(f"the compositor does not answer: {error}") from error
        for number in array.array("i", files):
            os.close(number)
        if not data:
            self.close()
            raise Unreadable("the compositor has ended")
        self._buffer += data
        synced = False
        while len(self._buffer) >= 8:
            number, word = struct.unpack_from("=II", self._buffer)
            size = word >> 16
            if size < 8 or len(self._buffer) < size:
                break
            synced |= self._event(number, word & 0xFFFF, self._buffer[8:size])
            self._buffer = self._buffer[size:]
        return synced

    def _event(self, number: int, opcode: int, body: bytes) -> bool:
        if (number, opcode) == (REGISTRY, 0):
            name, length = struct.unpack_from("=II", body)
            interface = body[8 : 8 + length - 1].decode(errors="replace")
            self._globals.setdefault(interface, (name, struct.unpack("=I", body[-4:])[0]))
        elif number == NOTIFICATION:
            self._idle_since = time.monotonic() if opcode == 0 else None
        elif (number, opcode) == (DISPLAY, 0):
            self.close()
            raise Unreadable("the compositor refused a request")
        return (number, opcode) == (CALLBACK, 0)
