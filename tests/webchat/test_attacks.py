"""What an enemy on this PC or in a web page can send to the real server: refused, or harmless."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress

import pytest
from websocket import WebSocketBadStatusException, WebSocketException, create_connection

from webchat import serve
from webchat.door import Door
from webchat.fake import FakeReader
from webchat.serve import Server

SOCKETS = ["/api/chat", "/api/v2/generate"]


def raw(server: Server, sent: bytes, seconds: float = 5.0) -> bytes:
    """What comes back, until the server hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as client:
        try:
            client.sendall(sent)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except (ConnectionError, TimeoutError):
            return b""


def get(server: Server, path: str, *headers: str, host: str | None = None) -> bytes:
    host = host or f"127.0.0.1:{server.port}"
    return raw(
        server, "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode("latin-1")
    )


def is_well(server: Server) -> bool:
    with urllib.request.urlopen(f"{server.url}/v1/models", timeout=5) as answer:
        return bool(answer.status == 200)


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_foreign_pages_open_no_socket(
    server: Server, door: Door, reader: FakeReader, path: str, origin: str
) -> None:
    """A WebSocket knows no same-origin rule, and the browser sends the cookie along to other ports."""
    cookie = f"idlebloom_{server.port}={door.cookie}"
    with pytest.raises(WebSocketBadStatusException, match="403"):
        create_connection(f"ws://127.0.0.1:{server.port}{path}", origin=origin, cookie=cookie, timeout=5)
    assert not reader.asks


@pytest.mark.parametrize("path", SOCKETS)
def test_a_rebound_name_opens_no_socket(server: Server, door: Door, path: str) -> None:
    """The page of a name that was pointed here has our address as its own origin."""
    name = f"evil.example:{server.port}"
    cookie = f"idlebloom_{server.port}={door.cookie}"
    with pytest.raises(WebSocketBadStatusException, match="421"):
        create_connection(
            f"ws://127.0.0.1:{server.port}{path}",
            origin=f"http://{name}",
            host=name,
            cookie=cookie,
            timeout=5,
        )


PATHS = [
    "/static/../../core/door.py",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/..%5c..%5capp.py",
    "/static/js/%00chat.js",
    "//evil.example/static/x",
    "/api/conversations/..%2f..%2fhistory.sqlite3/export",
    "/v1/models/../../etc/passwd",
    "/%ff%fe",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_lead_nowhere(server: Server, path: str) -> None:
    """Dots, slashes, zeros and broken UTF-8 find no file, and no other site."""
    answer = get(server, path)
    assert answer.split(b" ")[1] in (b"400", b"401", b"404", b"308"), answer[:200]
    assert b"root:" not in answer and b"evil.example" not in answer.partition(b"\r\n\r\n")[0]


MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
]


@pytest.mark.parametrize("sent", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_requests_harm_nobody(server: Server, sent: bytes) -> None:
    """They are refused or hung up on, and the next is served."""
    answer = raw(server, sent, seconds=1)
    assert not answer or not answer.startswith(b"HTTP/1.1 2")
    assert is_well(server)


HANDSHAKES = ["X: y", "Sec-WebSocket-Version: 99", "Sec-WebSocket-Key: x"]


@pytest.mark.parametrize("line", HANDSHAKES)
def test_half_a_handshake_is_refused(server: Server, line: str) -> None:
    """It is no fault of ours."""
    answer = get(server, "/api/v2/generate", "Connection: Upgrade", "Upgrade: websocket", line)
    assert answer.startswith(b"HTTP/1.1 400") and b"no WebSocket handshake" in answer


@pytest.mark.parametrize("path", SOCKETS)
def test_a_frame_that_breaks_the_rules_ends_its_socket(server: Server, door: Door, path: str) -> None:
    """With no more than a frame that says so: nothing of HTTP follows a handshake."""
    header = {"Authorization": f"Bearer {door.token}"}
    ws = create_connection(f"ws://127.0.0.1:{server.port}{path}", header=header, timeout=5)
    ws.sock.sendall(b"\x81\x02hi")  # not masked
    rest = b"".join(iter(lambda: ws.sock.recv(65536), b""))
    ws.shutdown()
    assert b"HTTP/1.1" not in rest
    assert is_well(server)


def test_no_request_at_all_is_refused_in_json(server: Server) -> None:
    """As everything that is refused."""
    answer = raw(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431")
    assert json.loads(body)["error"]["message"] == "This is not a request that can be read."


def test_a_second_request_is_not_smuggled(server: Server, reader: FakeReader) -> None:
    """What follows a request on its connection is never taken for another one."""
    hidden = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
    first = f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n{hidden}"
    assert raw(server, first.encode()).count(b"HTTP/1.1 ") == 1
    assert not reader.asks


def test_an_oversized_message_ends_its_socket(server: Server, door: Door) -> None:
    """Beyond the limit nothing is kept of it."""
    ws = create_connection(
        f"ws://127.0.0.1:{server.port}/api/chat",
        header=[f"Authorization: Bearer {door.token}"],
        suppress_origin=True,
        timeout=5,
    )
    with suppress(WebSocketException, OSError):  # closed in whatever way the library notices
        ws.send("x" * (3 * 2**20))
        while ws.recv():
            pass
    assert is_well(server)
    ws.shutdown()


def test_half_open_and_slow_clients_hold_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that connect and say nothing, or little, are gone in time; others are served."""
    monkeypatch.setattr(serve, "REQUEST_SECONDS", 1.0)
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=6) for _ in range(30)]
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=6) for _ in range(30)]
    for one in slow:
        one.sendall(b"POST /api/v1/generate HTTP/1.1\r\nContent-Length: 100\r\n\r\nmodel=")
    assert is_well(server)
    for one in (*silent, *slow):
        assert one.recv(1) == b""
        one.close()
    until = time.monotonic() + 5
    while threading.active_count() > before + 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() <= before + 2


def test_a_client_that_reads_nothing_does_not_hold_others(server: Server, reader: FakeReader) -> None:
    """Its own answer waits, or is dropped; that of the next comes."""
    reader.answer = "word " * 50_000
    body = json.dumps({"model": "idlebloom-demo", "prompt": "a", "max_tokens": 100_000, "stream": True})
    host = f"Host: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    head = f"POST /v1/completions HTTP/1.1\r\n{host}"
    deaf = []
    for _ in range(5):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        deaf.append(client)
    assert is_well(server)
    for client in deaf:
        client.close()


# Everything is imported before the change of user, who may not read this user's Python.
AS_NOBODY = """
import os, socket, sys
os.setuid(65534)
port = sys.argv[1]
for request in sys.argv[2:]:
    with socket.socket() as to:
        to.connect(("127.0.0.1", int(port)))
        to.sendall(request.replace("PORT", port).encode())
        print(to.recv(99).decode().split()[1])
"""
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)


@pytest.mark.root
def test_another_unix_user_gets_nothing_from_any_door(server: Server, reader: FakeReader, door: Door) -> None:
    """Neither pages nor sockets nor the APIs; not even with what the page's cookie would be."""
    form = "model=idlebloom-demo&inputs=a&max_new_tokens=2"
    kind = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n"
    requests = [
        f"GET /swarm HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nCookie: idlebloom_PORT={door.cookie}\r\n\r\n",
        f"GET /api/chat HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n{UPGRADE}\r\n",
        f"GET /api/v2/generate HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n{UPGRADE}\r\n",
        f"POST /api/v1/generate HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n{kind}\r\n{form}",
        "GET /api/conversations HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n",
        f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nAuthorization: Bearer {door.api_key}\r\n\r\n",
    ]
    asked = subprocess.run(
        [sys.executable, "-I", "-c", AS_NOBODY, str(server.port), *requests],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert asked.stdout.split() == ["403"] * 5 + ["200"]
    assert not reader.asks
