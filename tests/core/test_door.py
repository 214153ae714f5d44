from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from core.door import RunningNode, find, find_running
from core.errors import NodeError


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked, or a refusal in the node's shape."""

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        said = {
            "method": self.command,
            "path": self.path,
            "token": self.headers["Authorization"],
            "body": json.loads(self.rfile.read(length)) if length else None,
        }
        refused = self.path == "/refuse"
        body = json.dumps({"error": {"message": "Not now."}} if refused else said).encode()
        self.send_response(400 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer  # noqa: N815 – the names that http.server calls

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningNode]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be used
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield RunningNode(f"http://127.0.0.1:{server.server_port}", os.getpid(), "secret")
        server.shutdown()
        thread.join()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def test_a_door_is_found(tmp_path: Path, listener: socket.socket) -> None:
    """What the node wrote is found, by this user alone."""
    file = tmp_path / "run" / "door.json"
    written = RunningNode(f"http://127.0.0.1:{listener.getsockname()[1]}", os.getpid(), "secret")
    written.write(file)
    assert find(file) == written
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_door_without_its_node(tmp_path: Path, listener: socket.socket) -> None:
    """A file that outlived its node counts as no node, also where another process has its number."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    RunningNode(url, ended.pid, "secret").write(tmp_path / "door.json")
    assert find(tmp_path / "door.json") is None
    RunningNode(url, os.getpid(), "secret").write(tmp_path / "door.json")
    assert find(tmp_path / "door.json") is not None
    listener.close()
    assert find(tmp_path / "door.json") is None


@pytest.mark.parametrize("content", ["", "[]", '{"url": 1}', '{"url": "http://x", "pid": 0, "token": ""}'])
def test_a_broken_door(tmp_path: Path, content: str) -> None:
    """A file that makes no sense counts as no node."""
    (tmp_path / "door.json").write_text(content)
    assert find(tmp_path / "door.json") is None


def test_no_node_is_said(tmp_path: Path) -> None:
    """Where a node is needed and none runs, it is said how to start one."""
    with pytest.raises(NodeError, match=r"not running\. Start it with: idlebloom node"):
        find_running(tmp_path / "door.json")


def test_requests_carry_the_token(node: RunningNode) -> None:
    """Requests carry the token and the body, and ask no proxy."""
    assert node.request("/a?b=1") == {
        "method": "GET",
        "path": "/a?b=1",
        "token": "Bearer secret",
        "body": None,
    }
    put = node.request("/s", {"port": 1}, method="PUT")
    assert (put["method"], put["body"]) == ("PUT", {"port": 1})
    assert node.request("/s", {})["method"] == "POST"


def test_a_refusal_has_the_nodes_words(node: RunningNode) -> None:
    """When the node refuses, its own words are said."""
    with pytest.raises(NodeError, match=r"^Not now\.$"):
        node.request("/refuse")


def test_a_node_that_does_not_answer() -> None:
    """It is named with its process."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = RunningNode(f"http://127.0.0.1:{silent.getsockname()[1]}", os.getpid(), "secret")
        with pytest.raises(NodeError, match=rf"does not answer .* End process {node.pid}"):
            node.request("/", seconds=0.1)


def test_a_door_where_nobody_listens() -> None:
    """Its node was killed, and the number of its process is another's now: that one is not blamed."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(NodeError, match="is not running"):
        RunningNode(f"http://127.0.0.1:{port}", os.getpid(), "secret").request("/")
