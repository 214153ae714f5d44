"""The web server: Werkzeug's threads on one loopback port, made safe against slow and many clients.

flask-sock needs a server that hands it the connection itself, and one that does not fork after the node's
loop has started; of those Werkzeug's is here already. What it lacks is added: a request must be whole
within seconds, connections are counted, a client that does not read is dropped, and nothing is logged.
"""

from __future__ import annotations

import ctypes
import io
import json
import logging
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any

from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from core.errors import NodeError

log = logging.getLogger(__name__)
REQUEST_SECONDS = 15.0
SEND_SECONDS = 30
MAX_CONNECTIONS = 512
PORTS_TRIED = 100
M_ARENA_MAX = -8
"""Of glibc's malloc.h."""
POLL_SECONDS = 0.2
"""How soon it notices that it is to stop."""


class Server:
    """``app`` on ``host``: on ``port``, or on the next free one; 0 takes any. Bound at once, so that ``url``
    and ``port`` are known before ``start``."""

    def __init__(self, app: Flask, host: str = "127.0.0.1", port: int = 7714) -> None:
        self._listener = listen(host, port)
        self.host, self.port = self._listener.getsockname()[:2]
        self._server = Threads(self.host, self.port, app, fd=self._listener.fileno())
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="web server", daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        share_memory()
        self._thread.start()
        self._server.patience.start()

    def stop(self) -> None:
        """Refuse new clients and hang up on those that are there."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.patience.stop()
        self._server.server_close()
        self._listener.close()
        self._server.hang_up()


def share_memory() -> None:
    """glibc gives threads areas of memory of their own, up to 8 a core, and each keeps what was freed in it:
    a few hundred connections made the node 50 MB larger than with two areas for all."""
    with suppress(OSError, AttributeError):  # another C library has no such habit
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def listen(host: str, port: int) -> socket.socket:
    last = port if port == 0 else min(port + PORTS_TRIED - 1, 65535)
    for candidate in range(port, last + 1):
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Lets us come back to a port whose old connections linger; it cannot take one that is in use.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            why = error
    where = str(port) if port == last else f"{port} to {last}"
    raise NodeError(
        f"no port from {where} can be used on {host}: {why.strerror}", "Choose another with --port."
    )


class Patience:
    """Hangs up on connections whose request is not whole in time. A timeout of the socket would not do:
    a client that sends a byte now and then never meets it."""

    def __init__(self) -> None:
        self._deadlines: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._look, name="patience", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def begin(self, connection: socket.socket) -> None:
        with self._lock:
            self._deadlines[connection] = time.monotonic() + REQUEST_SECONDS

    def end(self, connection: socket.socket) -> None:
        with self._lock:
            self._deadlines.pop(connection, None)

    def give_up_oldest(self) -> bool:
        """Hangs up on who has taken longest for a request; ``False`` where all requests are whole."""
        with self._lock:
            oldest = next(iter(self._deadlines), None)
            if oldest is None:
                return False
            del self._deadlines[oldest]
        hang_up(oldest)
        return True

    def _look(self) -> None:
        while not self._stopped.wait(0.5):
            now = time.monotonic()
            with self._lock:
                late = [one for one, deadline in self._deadlines.items() if deadline < now]
                for one in late:
                    del self._deadlines[one]
            for one in late:
                hang_up(one)


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**13
    """Werkzeug writes a chunk in four parts and then flushes: one message to the system instead of four."""
    server: Threads

    def setup(self) -> None:
        super().setup()
        self.server.patience.begin(self.connection)
        limit = struct.pack("ll", SEND_SECONDS, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def run_wsgi(self) -> None:
        """Have the whole body before the app runs, so that no view ever waits for a slow client."""
        body = self._body()
        if body is None:
            return
        self.server.patience.end(self.connection)
        self.rfile = io.BufferedReader(io.BytesIO(body))
        super().run_wsgi()

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding"):
            self._turn_away(411, "the request must state its length")
            return None
        length = self.headers.get("Content-Length", "0").strip()
        if not (length.isascii() and length.isdigit()) or len(length) > 15:
            self._turn_away(400, "the Content-Length is not a number")
            return None
        limit = self.server.max_body
        if int(length) > limit:
            # Taking some of it lets an honest client read the answer instead of a broken connection.
            self._skip(min(int(length), 16 * limit))
            self._turn_away(413, "the request is too large")
            return None
        body = self.rfile.read(int(length))
        return body if len(body) == int(length) else None

    def _skip(self, left: int) -> None:
        while left > 0:
            taken = len(self.rfile.read(min(left, 2**16)))
            left = left - taken if taken else 0

    def _turn_away(self, status: int, message: str) -> None:
        shape = {"message": f"{message[0].upper()}{message[1:]}.", "type": "invalid_request_error"}
        body = json.dumps({"error": {**shape, "param": None, "code": None}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_response(self, code: int, message: str | None = None) -> None:
        """flask-sock ends a WebSocket with an empty answer: its client must not take that for a frame."""
        if code == 200 and self.headers.get("Upgrade", "").lower() == "websocket":
            self.wfile = io.BytesIO()
        super().send_response(code, message)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What cannot be read as a request is refused as all else is, not with a page."""
        self._turn_away(code, "this is not a request that can be read")

    def version_string(self) -> str:
        return "Idlebloom"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 Werkzeug's name
        """What is asked is nobody's business, and a client that hangs up is no news."""


class Threads(ThreadedWSGIServer):
    """A thread a connection, and no more than ``MAX_CONNECTIONS`` of them. Who comes then takes the place of
    the one that has dawdled longest: nobody keeps others out without asking anything."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, app: Flask, fd: int) -> None:
        super().__init__(host, port, app, handler=Handler, fd=fd)
        self.max_body: int = app.config["MAX_CONTENT_LENGTH"]
        self.patience = Patience()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._open) >= MAX_CONNECTIONS
        if full and not self.patience.give_up_oldest():
            log.warning("more than %s connections: one was refused", MAX_CONNECTIONS)
            self.shutdown_request(request)
            return
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.patience.end(request)
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection; errors of the app never come this far."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 Werkzeug's name
        pass

    def hang_up(self) -> None:
        with self._lock:
            left = list(self._open)
        for connection in left:
            hang_up(connection)


def hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has already gone
