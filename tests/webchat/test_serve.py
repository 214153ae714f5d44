from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from websocket import create_connection

from core.errors import NodeError
from webchat import serve
from webchat.neighbour import Ends, ends_of, is_stranger
from webchat.serve import Server


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_in_use_gives_the_next_free_one(app: Flask, taken: int) -> None:
    """The program starts all the same, and says where."""
    server = Server(app, port=taken)
    server.start()
    assert server.port > taken
    with urllib.request.urlopen(f"{server.url}/") as answer:
        assert answer.status == 200
    server.stop()


def test_no_port_at_all_is_an_error_in_words(app: Flask, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the port and what to do."""
    monkeypatch.setattr(serve, "PORTS_TRIED", 1)
    with pytest.raises(NodeError, match=rf"no port from {taken} can be used.*--port"):
        Server(app, port=taken)


def test_a_stopped_server_lets_its_port_and_clients_go(app: Flask) -> None:
    """The same port can be had again at once, and nobody hangs on."""
    server = Server(app, port=0)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        time.sleep(0.2)
        server.stop()
        client.settimeout(2)
        assert client.recv(1) == b""
    again = Server(app, port=server.port)
    assert again.port == server.port
    again.stop()


@pytest.mark.parametrize(
    "begun", [b"GET / HTTP/1.1\r\nX-", b"POST /v1/completions HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
)
def test_a_client_that_dawdles_is_hung_up_on(
    app: Flask, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that sends a byte now and then: the whole request has a deadline."""
    monkeypatch.setattr(serve, "REQUEST_SECONDS", 0.5)
    server = Server(app, port=0)
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(begun)
        until = time.monotonic() + 5
        client.settimeout(0.1)
        while time.monotonic() < until:
            try:
                client.sendall(b"a")
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() < until
    server.stop()


def test_connections_are_counted(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a new one is closed at once; when others go there is room again."""
    monkeypatch.setattr(serve, "MAX_CONNECTIONS", 3)
    server = Server(app, port=0)
    server.start()
    url = f"ws://127.0.0.1:{server.port}/api/v2/generate"
    used = [create_connection(url, timeout=5, suppress_origin=True) for _ in range(3)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=3) as fourth:
        assert fourth.recv(1) == b""
    for one in used:
        one.shutdown()
    time.sleep(0.2)
    with urllib.request.urlopen(f"{server.url}/") as answer:
        assert answer.status == 200
    server.stop()


def test_those_who_ask_nothing_keep_nobody_out(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where half-open connections take all places, who comes takes that of the oldest."""
    monkeypatch.setattr(serve, "MAX_CONNECTIONS", 3)
    server = Server(app, port=0)
    server.start()
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(3)]
    time.sleep(0.2)
    with urllib.request.urlopen(f"{server.url}/", timeout=5) as answer:
        assert answer.status == 200
    assert idle[0].recv(1) == b""
    for one in idle:
        one.close()
    server.stop()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 99999999\r\n", 413),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: 1e3\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n", 411),
    ],
)
def test_bodies_without_an_honest_length_are_refused(server: Server, head: bytes, status: int) -> None:
    """In JSON, before anything is kept."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 %d" % status)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_requests_are_not_logged(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """What is asked is nobody's business."""
    urllib.request.urlopen(f"{server.url}/?private").close()
    out, err = capfd.readouterr()
    assert "private" not in out + err


def test_a_stalled_reader_does_not_stop_others(server: Server) -> None:
    """Slow clients hold a thread each and nothing else."""
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    for one in slow:
        one.sendall(b"GET / HTTP/1.1\r\n")
    begun = time.monotonic()
    urllib.request.urlopen(f"{server.url}/v1/models").close()
    assert time.monotonic() - begun < 2
    for one in slow:
        one.close()


def test_our_own_connection_is_no_strangers(server: Server) -> None:
    """Found by its port in the system's table."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        here = ends_of(client)
        assert not is_stranger(Ends(server=here.client, client=here.server))


HERE, THERE = "0100007F:1E22", "0100007F:C350"
MAPPED = "0000000000000000FFFF0000"
V6 = "00000000000000000000000001000000"
REST = "01 00000000:00000000 00:00000000 00000000 {} 0 77 1 000000002fe1941e 20 4 30 10 -1"


def listing(path: Path, *sockets: tuple[str, str, int]) -> Path:
    lines = [f"   {at}: {a} {b} {REST.format(f'{user:5}')}" for at, (a, b, user) in enumerate(sockets)]
    path.write_text("\n".join(["  sl  local_address rem_address   st", *lines]) + "\n")
    return path


@pytest.mark.parametrize(("user", "stranger"), [(os.getuid(), False), (os.getuid() + 1, True)])
@pytest.mark.parametrize("form", ["plain", "mapped", "6"])
def test_the_owner_of_the_other_end_is_read(tmp_path: Path, form: str, user: int, stranger: bool) -> None:
    """However the system writes the ends: IPv4, IPv4 from an IPv6 socket, IPv6."""
    address = "::1" if form == "6" else "127.0.0.1"
    prefix = MAPPED if form == "mapped" else ""
    here, there = (f"{V6}:1E22", f"{V6}:C350") if form == "6" else (prefix + HERE, prefix + THERE)
    ours = (here if form != "mapped" else HERE, there if form != "mapped" else THERE, os.getuid())
    first = listing(tmp_path / "tcp", ("00000000:1E22", "00000000:0000", 0), ours)
    second = listing(tmp_path / "tcp6", (there, here, user))
    ends = Ends(server=(address, 7714), client=(address, 50000))
    assert is_stranger(ends, (first, second)) is stranger


def test_a_table_without_our_own_end_says_nothing(tmp_path: Path) -> None:
    """Where the system lists other sockets than those of this program, nobody is a stranger."""
    table = listing(tmp_path / "tcp", (THERE, HERE, os.getuid() + 1))
    assert not is_stranger(Ends(("127.0.0.1", 7714), ("127.0.0.1", 50000)), (table,))


def test_a_client_that_has_gone_is_a_stranger(tmp_path: Path) -> None:
    """Its end is listed no more; who waits for an answer is."""
    table = listing(tmp_path / "tcp", (HERE, THERE, os.getuid()))
    assert is_stranger(Ends(("127.0.0.1", 7714), ("127.0.0.1", 50000)), (table,))


def test_an_unreadable_table_says_nothing(server: Server) -> None:
    """Where the system keeps no such table nobody is a stranger."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        assert not is_stranger(ends_of(client), tables=())


# Everything is imported before the change of user, who may not read this user's Python.
ASK_AS_NOBODY = """
import os, socket, sys
os.setuid(65534)
with socket.socket() as to:
    to.connect(("127.0.0.1", int(sys.argv[1])))
    to.sendall(f"GET {sys.argv[2]} HTTP/1.1\\r\\nHost: 127.0.0.1:{sys.argv[1]}\\r\\n\\r\\n".encode())
    print(to.recv(99).decode().split()[1])
"""


@pytest.mark.root
@pytest.mark.parametrize("path", ["/", "/v1/models", "/api/v1/state"])
def test_another_unix_user_gets_nothing(server: Server, path: str) -> None:
    """A real process of another user is told that this node is not theirs."""
    asked = subprocess.run(
        [sys.executable, "-I", "-c", ASK_AS_NOBODY, str(server.port), path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.strip() == "403"


def test_threads_end_with_their_clients(server: Server) -> None:
    """Fifty visits leave no thread behind."""
    urllib.request.urlopen(f"{server.url}/v1/models").close()
    before = threading.active_count()
    for _ in range(50):
        urllib.request.urlopen(f"{server.url}/v1/models").close()
    until = time.monotonic() + 3
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_windows_itself_is_no_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside Windows' Linux, connections from Windows come through a program of root's; elsewhere root's are
    another user's, and everywhere a third user's are."""
    monkeypatch.setattr("os.getuid", lambda: 1000)
    kernels = {name: tmp_path / name for name in ("microsoft-standard-WSL2", "amd64", "absent")}
    for name in ("microsoft-standard-WSL2", "amd64"):
        kernels[name].write_text(f"6.6.87-{name}\n")

    def strange(uid: int, kernel: str) -> bool:
        table = tmp_path / "tcp"
        line = "{n}: 0100007F:{a} 0100007F:{b} 01 0:0 0:0 0 {uid} 0"
        ours, theirs = (
            line.format(n=0, a="1E22", b="A000", uid=1000),
            line.format(n=1, a="A000", b="1E22", uid=uid),
        )
        table.write_text(f"head\n{ours}\n{theirs}\n")
        ends = Ends(server=("127.0.0.1", 0x1E22), client=("127.0.0.1", 0xA000))
        return is_stranger(ends, (table,), kernels[kernel])

    assert [strange(0, kernel) for kernel in kernels] == [False, True, True]
    assert [strange(uid, "microsoft-standard-WSL2") for uid in (1000, 1001)] == [False, True]
