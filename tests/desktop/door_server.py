"""A small local door that speaks as DESIGN 8 says, for the desktop's tests."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from core.door import RunningNode
from core.errors import SettingError
from core.settings import Settings, changed, to_json

TOKEN = "token-of-the-test"
DAYS = [
    {
        "day": f"2026-11-{14 + n:02}",
        "tokens": 40 * n * n,
        "conversations": n,
        "up_bytes": n * 10**8,
        "down_bytes": n * 10**7,
        "hours": n / 2,
    }
    for n in range(14)
]
T = {"tokens": 412, "conversations": 9, "up_bytes": 1_200_000_000, "down_bytes": 80_000_000, "hours": 5.5}


def status(state: str = "giving", **more: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "state": state,
        "reason": None,
        "span": {"start": 3, "end": 8},
        "progress": None,
        "sessions": 2,
        "today": {"tokens": 412, "conversations": 9, "up_bytes": 1_200_000_000, "down_bytes": 80_000_000},
        "vram": {"used": 6_100_000_000, "cap": 9_000_000_000},
        "rates": {"up": 410_000.0, "down": 52_000.0, "tokens": 6.4},
        "swarm": {"model": "bigscience/bloomz-7b1", "whole": True, "missing": [], "donors": 14},
        **more,
    }


def reason(kind: str, until: float | None = None, text: str = "", **args: Any) -> dict[str, Any]:
    return {"kind": kind, "args": args, "until": until, "text": text or kind}


class FakeDoor:
    """Starts at once; ``say`` sends a snapshot to whoever follows."""

    def __init__(self) -> None:
        self.status = status()
        self.settings = Settings()
        self.donated: list[dict[str, Any]] = []
        self.put: list[dict[str, Any]] = []
        self.refuse_donate = ""
        self.changed = threading.Condition()
        self.version = 0
        self.ended = False
        self.events: list[dict[str, Any]] = [
            {
                "at": time.time() - 7200,
                "state": "waiting",
                "reason": reason("input", minutes=3),
                "span": None,
            },
            {"at": time.time() - 5000, "state": "fetching", "reason": None, "span": None},
            {"at": time.time() - 1200, "state": "giving", "reason": None, "span": {"start": 3, "end": 8}},
        ]
        self.ledger = {
            "today": T,
            "week": {**T, "tokens": 9120},
            "all": {**T, "tokens": 120_400},
            "days": DAYS,
        }
        door = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def answer(self, code: int, said: object) -> None:
                body = json.dumps(said).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def allowed(self) -> bool:
                if self.headers["Authorization"] == f"Bearer {TOKEN}":
                    return True
                self.answer(401, {"error": {"message": "this needs the control cookie or the token"}})
                return False

            def body(self) -> Any:
                return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

            def do_GET(self) -> None:
                if not self.allowed():
                    return
                if self.path == "/api/status":
                    door.stream(self)
                elif self.path == "/api/settings":
                    self.answer(200, to_json(door.settings))
                elif self.path == "/api/given":
                    self.answer(200, door.ledger)
                elif self.path == "/api/events":
                    self.answer(200, door.events)
                else:
                    self.answer(404, {"error": {"message": "there is nothing here"}})

            def do_PUT(self) -> None:
                if not self.allowed():
                    return
                changes = self.body()
                door.put.append(changes)
                try:
                    door.settings = changed(door.settings, changes)
                except SettingError as error:
                    self.answer(400, {"error": {"message": str(error)}})
                else:
                    self.answer(200, to_json(door.settings))

            def do_POST(self) -> None:
                if not self.allowed():
                    return
                door.donated.append(self.body())
                if door.refuse_donate:
                    self.answer(400, {"error": {"message": door.refuse_donate}})
                else:
                    self.answer(200, {})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def running(self, pid: int) -> RunningNode:
        return RunningNode(f"http://127.0.0.1:{self.server.server_port}", pid, TOKEN)

    def say(self, said: dict[str, Any]) -> None:
        with self.changed:
            self.status, self.version = said, self.version + 1
            self.changed.notify_all()

    def stream(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        seen = -1
        while not self.ended:
            with self.changed:
                self.changed.wait_for(lambda: self.ended or self.version != seen, timeout=1)  # noqa: B023
                seen, said = self.version, json.dumps(self.status)
            if self.ended:
                return
            try:
                handler.wfile.write(f"data: {said}\n\n".encode())
                handler.wfile.flush()
            except OSError:
                return

    def close(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
