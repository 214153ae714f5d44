"""How this user's other programs find the running node: one small private file.

The node writes it when its local server listens, and removes it at its end. One that outlived its
node is recognised by the process id; where another process has that number by now, by a port that nobody
listens at.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core import json_file
from core.errors import NodeError

LISTENS_SECONDS = 0.5
NOT_RUNNING = "Idlebloom is not running. Start it with: idlebloom node"


@dataclass(frozen=True)
class RunningNode:
    url: str
    """Ends without a slash: ``http://127.0.0.1:7714``."""
    pid: int
    token: str
    """Whoever can read the file is the owner: sent as ``Authorization: Bearer TOKEN``."""

    def write(self, file: Path) -> None:
        json_file.write(file, asdict(self))

    def request(
        self, path: str, body: Mapping[str, object] | None = None, method: str = "", seconds: float = 10.0
    ) -> Any:
        """The JSON that the node answers; with a body it is a POST unless said otherwise. Raises
        ``NodeError``, with the node's own words where it refused."""
        import urllib.error
        import urllib.request

        request = urllib.request.Request(  # noqa: S310 – the file is this user's own
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method or ("GET" if body is None else "POST"),
        )
        # No proxy of the environment: the node is on this PC.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=seconds) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise NodeError(_refusal(error.read()) or f"the node answered {error.code}") from error
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            if isinstance(why, ConnectionRefusedError):  # it was killed, and its number is another's now
                raise NodeError(NOT_RUNNING) from error
            raise NodeError(
                f"the node at {self.url} does not answer ({why})", f"End process {self.pid} if that lasts."
            ) from error


def _refusal(body: bytes) -> str:
    """The node's words in ``{"error": {"message": …}}``."""
    try:
        said = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(said)


def find(file: Path) -> RunningNode | None:
    """The door of the running node, or nothing where none runs."""
    try:
        found = json_file.read(file)
    except json_file.Broken:
        return None
    match found:
        case {"url": str(url), "pid": int(pid), "token": str(token)} if alive(pid) and listens(url):
            return RunningNode(url, pid, token)
    return None


def find_running(file: Path) -> RunningNode:
    """The same, with ``NodeError`` where none runs."""
    door = find(file)
    if door is None:
        raise NodeError(NOT_RUNNING)
    return door


def listens(url: str) -> bool:
    """Whether anything takes connections there; one that is only slow does."""
    try:
        parts = urlsplit(url)
        socket.create_connection((parts.hostname or "", parts.port or 0), LISTENS_SECONDS).close()
    except (ConnectionRefusedError, ValueError):
        return False
    except OSError:
        pass
    return True


def alive(pid: int) -> bool:
    if sys.platform == "win32":  # there os.kill ends whatever it is asked about
        import psutil

        return psutil.pid_exists(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
