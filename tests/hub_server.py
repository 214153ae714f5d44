"""A hub on this PC: what fetching needs of the Hugging Face protocol, with faults on demand and a log.

Large files are answered by a redirect to a "CDN" on another port's path, which serves ranges, as the
real one does. ``faults`` are used up in order, one a request for bytes of weights.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Fault:
    """``status`` answers with it; ``cut`` closes the connection after so many bytes; ``corrupt`` flips a
    bit of the byte at that place of the file; ``rate`` sends that many bytes a second; ``hang`` sends
    nothing more after ``cut`` bytes."""

    status: int = 0
    retry_after: str = ""
    cut: int | None = None
    hang: bool = False
    corrupt: bool = False
    ignore_range: bool = False
    rate: float = 0.0


@dataclass(frozen=True)
class Sent:
    """One answered request for a file: the bytes ``[begin, end)`` asked for, and how many went out."""

    name: str
    begin: int
    end: int
    count: int


@dataclass
class FakeHub:
    """``models``: folders by id. ``gated`` ids need ``token``."""

    url: str = ""
    models: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str = "hf_good"
    faults: list[Fault] = field(default_factory=list)
    listing_faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    sent: list[Sent] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens_at_cdn: list[str] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)

    def weights(self) -> int:
        """Bytes of weights that went out, headers of the files included."""
        return sum(one.count for one in self.sent if one.name.endswith(".safetensors"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._listing(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            if "Authorization" in self.headers:
                self.hub.tokens_at_cdn.append(self.headers["Authorization"])
            self._file(self.hub.models[found[1]] / found[2])
        else:
            self._refuse(404, "EntryNotFound")

    def _listing(self, model: str, revision: str) -> None:
        if self.hub.listing_faults:
            fault = self.hub.listing_faults.pop(0)
            return self._refuse(fault.status, "", retry_after=fault.retry_after)
        if model not in self.hub.models:
            return self._refuse(401, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        files = [path for path in sorted(self.hub.models[model].iterdir()) if path.is_file()]
        body = {"id": model, "sha": COMMIT, "siblings": [_sibling(path) for path in files]}
        return self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, model: str, revision: str, name: str) -> None:
        if model not in self.hub.models:
            return self._refuse(401, "RepoNotFound")
        if model in self.hub.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            known = "Authorization" in self.headers
            return self._refuse(403 if known else 401, "GatedRepo")
        path = self.hub.models[model] / name
        if revision != COMMIT or not path.is_file():
            return self._refuse(404, "EntryNotFound")
        if _is_large(path):
            # localhost instead of 127.0.0.1: another origin, as a CDN is.
            elsewhere = self.hub.url.replace("127.0.0.1", "localhost")
            return self._answer(302, b"", {"Location": f"{elsewhere}/cdn/{model}/{name}"})
        return self._file(path)

    def _file(self, path: Path) -> None:
        data, status = path.read_bytes(), 200
        begin, end = 0, len(data)
        headers = {"Accept-Ranges": "bytes"}
        fault = self._fault(path)
        if fault.status:
            return self._refuse(fault.status, "", retry_after=fault.retry_after)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and not fault.ignore_range:
            begin, end, status = int(asked[1]), min(len(data), int(asked[2]) + 1), 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
        body = bytearray(data[begin:end])
        if fault.corrupt:
            body[len(body) // 2] ^= 1
        return self._answer(status, bytes(body), headers, fault, Sent(path.name, begin, end, 0))

    def _fault(self, path: Path) -> Fault:
        if path.suffix != ".safetensors":
            return Fault()
        if self.hub.faults:
            return self.hub.faults.pop(0)
        return self.hub.always or Fault()

    def _refuse(self, status: int, code: str, retry_after: str = "") -> None:
        extra = {"X-Error-Code": code} if code else {}
        self._answer(status, b"{}", extra | ({"Retry-After": retry_after} if retry_after else {}))

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        fault: Fault = Fault(),
        what: Sent | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = 0
        try:
            for step in self._steps(body[: fault.cut], fault):
                self.wfile.write(step)
                sent += len(step)
            if fault.hang:
                self.hub.hanging.set()
                self.connection.settimeout(60)
                self.connection.recv(1)  # until the client goes
        except OSError:
            pass  # the client has gone
        finally:
            if what:
                self.hub.sent.append(Sent(what.name, what.begin, what.end, sent))
            if fault.cut is not None:
                self.close_connection = True

    def _steps(self, body: bytes, fault: Fault) -> Iterator[bytes]:
        size = max(1, int(fault.rate / 50)) if fault.rate else 1 << 16
        for at in range(0, len(body), size):
            if fault.rate:
                time.sleep(0.02)
            yield body[at : at + size]


def _is_large(path: Path) -> bool:
    return path.suffix in (".safetensors", ".bin")


def _sibling(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    one: dict[str, object] = {"rfilename": path.name, "size": len(data), "blobId": blob}
    if _is_large(path):
        digest = hashlib.sha256(data).hexdigest()
        one["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
    return one


@contextmanager
def serve() -> Iterator[FakeHub]:
    """A running hub; ``url`` is where."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
