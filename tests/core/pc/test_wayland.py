"""ext-idle-notify, spoken with a compositor of a few lines over a real socket."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.pc.source import Unreadable
from core.pc.wayland import NOTIFICATION, WaylandIdle


class Compositor:
    """Offers ``names``; tells idled and resumed when the test says."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.names, self.asked = names, b""
        self.ready = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self.client: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.client, buffer = client, b""
            with client:
                while data := self._receive(client):
                    buffer = self._requests(client, buffer + data)

    def _receive(self, client: socket.socket) -> bytes:
        try:
            return client.recv(4096)
        except OSError:
            return b""

    def _requests(self, client: socket.socket, buffer: bytes) -> bytes:
        while len(buffer) >= 8:
            number, word = struct.unpack_from("=II", buffer)
            size, opcode = word >> 16, word & 0xFFFF
            if len(buffer) < size:
                break
            body, buffer = buffer[8:size], buffer[size:]
            if (number, opcode) == (1, 1):
                for name, interface in enumerate(self.names, 1):
                    text = interface.encode() + b"\0"
                    shape = struct.pack("=II", name, len(text)) + text + b"\0" * (-len(text) % 4)
                    self._event(client, struct.unpack("=I", body)[0], 0, shape + struct.pack("=I", 2))
            elif (number, opcode) == (1, 0):
                self._event(client, struct.unpack("=I", body)[0], 0, struct.pack("=I", 0))
            elif body[-8:-4] == struct.pack("=I", 1000) and opcode == 1:
                self.asked = body
                self.ready.set()
        return buffer

    def _event(self, client: socket.socket, number: int, opcode: int, body: bytes = b"") -> None:
        client.sendall(struct.pack("=II", number, (8 + len(body)) << 16 | opcode) + body)

    def tell(self, idled: bool) -> None:
        assert self.client is not None and self.ready.wait(5)
        self._event(self.client, NOTIFICATION, 0 if idled else 1)

    def hang_up(self) -> None:
        assert self.client is not None
        self.client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def compositor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compositor]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-7")
    made = Compositor(tmp_path / "wayland-7", ("wl_compositor", "wl_seat", "ext_idle_notifier_v1"))
    yield made
    made.close()


def idle(source: WaylandIdle) -> float:
    seconds = source.read()["idle_seconds"]
    assert isinstance(seconds, float)
    return seconds


def read_until(source: WaylandIdle, idled: bool) -> float:
    end = time.monotonic() + 5
    while ((seconds := idle(source)) >= 1.0) is not idled:
        assert time.monotonic() < end
        time.sleep(0.01)
    return seconds


def test_the_compositor_tells_when_nobody_is_there(compositor: Compositor) -> None:
    """Idle for a second and more once it says so, and no longer when it says that input came."""
    source = WaylandIdle.open()
    assert source is not None
    assert idle(source) == 0.0
    compositor.tell(idled=True)
    first = read_until(source, idled=True)
    time.sleep(0.05)
    assert idle(source) > first
    compositor.tell(idled=False)
    read_until(source, idled=False)
    assert idle(source) == 0.0
    source.close()


def test_a_compositor_that_ends_is_unknown(compositor: Compositor) -> None:
    """And one that is back is asked anew, beginning at no time at all."""
    source = WaylandIdle.open()
    assert source is not None
    compositor.tell(idled=True)
    read_until(source, idled=True)
    compositor.hang_up()
    time.sleep(0.1)
    with pytest.raises(Unreadable):
        source.read()
    assert idle(source) == 0.0
    source.close()


def test_a_compositor_without_the_protocol_has_the_null_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then something else is asked."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-8")
    assert WaylandIdle.open() is None
    made = Compositor(tmp_path / "wayland-8", ("wl_seat",))
    assert WaylandIdle.open() is None
    made.close()
