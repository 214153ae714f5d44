"""The node's local door as the desktop uses it: one stream of snapshots in, what changed out.

Everything happens in Qt's own event loop (QtNetwork): no threads, and nothing here blocks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from PySide6.QtCore import QObject, QTimer, QUrl, Signal
from PySide6.QtNetwork import QNetworkAccessManager, QNetworkProxy, QNetworkReply, QNetworkRequest

from core.door import RunningNode
from desktop import snapshot
from desktop.events import Events

AGAIN_MS = 1000
"""Before a broken stream is opened again."""
SILENCE_MS = 45_000
"""The node says something every 15 s; after so long without a byte the stream is dead."""
ANSWER_MS = 20_000

Done = Callable[[Any], None]
Failed = Callable[[str], None]


def nothing(_: Any) -> None:
    """For answers that nobody waits for."""


class Client(QObject):
    """Follows the node that ``attach`` names. ``seen`` carries each snapshot; ``lost`` that the stream broke
    and is opened again soon."""

    seen = Signal(object)
    lost = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._network = QNetworkAccessManager(self)
        self._network.setProxy(QNetworkProxy(QNetworkProxy.ProxyType.NoProxy))  # the node is on this PC
        self._door: RunningNode | None = None
        self._stream: QNetworkReply | None = None
        self._events = Events()
        self._again = _timer(self, AGAIN_MS, self._follow)
        self._silence = _timer(self, SILENCE_MS, self._reopen)

    @property
    def door(self) -> RunningNode | None:
        return self._door

    def attach(self, door: RunningNode) -> None:
        """Follow this node from now on."""
        if door != self._door:
            self._door = door
            self._follow()

    def detach(self) -> None:
        """The node has gone; nothing is asked of it any more."""
        self._door = None
        self._again.stop()
        self._drop()

    # Asking

    def get(self, path: str, done: Done, failed: Failed = nothing) -> None:
        self._ask("GET", path, None, done, failed)

    def put_settings(self, changes: Mapping[str, object], done: Done, failed: Failed) -> None:
        """Only what changed is sent; ``done`` gets all settings as they are then."""
        self._ask("PUT", "/api/settings", changes, done, failed)

    def donate(self, body: Mapping[str, object], failed: Failed = nothing) -> None:
        self._ask("POST", "/api/donate", body, nothing, failed)

    def tell(self, facts: Mapping[str, object]) -> None:
        """What this side of the PC does, for a node that cannot see it. The next time says it anew."""
        self._ask("POST", "/api/facts", facts, nothing, nothing)

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None, done: Done, failed: Failed
    ) -> None:
        if self._door is None:
            QTimer.singleShot(0, lambda: failed(""))
            return
        request = self._request(path)
        request.setTransferTimeout(ANSWER_MS)
        data = b"" if body is None else json.dumps(body).encode()
        reply = self._network.sendCustomRequest(request, method.encode(), data)
        reply.finished.connect(lambda: _answered(reply, done, failed))

    def _request(self, path: str) -> QNetworkRequest:
        assert self._door is not None
        request = QNetworkRequest(QUrl(self._door.url + path))
        request.setRawHeader(b"Authorization", f"Bearer {self._door.token}".encode())
        request.setRawHeader(b"Content-Type", b"application/json")
        return request

    # Following

    def _follow(self) -> None:
        self._drop()
        if self._door is None:
            return
        self._events = Events()
        request = self._request("/api/status")
        request.setRawHeader(b"Accept", b"text/event-stream")
        stream = self._network.get(request)
        self._stream = stream
        stream.readyRead.connect(lambda: self._read(stream))
        stream.finished.connect(lambda: self._ended(stream))
        self._silence.start()

    def _read(self, stream: QNetworkReply) -> None:
        if stream is not self._stream:
            return
        self._silence.start()
        try:
            found = self._events.feed(bytes(stream.readAll().data()))
            # Only the last counts: each is a whole snapshot.
            latest = snapshot.read(json.loads(found[-1])) if found else None
        except ValueError:
            self._reopen()
            return
        if latest is not None:
            self.seen.emit(latest)

    def _ended(self, stream: QNetworkReply) -> None:
        if stream is self._stream:
            self._reopen()
        stream.deleteLater()

    def _reopen(self) -> None:
        self._drop()
        if self._door is not None:
            self.lost.emit()
            self._again.start()

    def _drop(self) -> None:
        self._silence.stop()
        stream, self._stream = self._stream, None
        if stream is not None and stream.isRunning():
            stream.abort()


def _answered(reply: QNetworkReply, done: Done, failed: Failed) -> None:
    body = bytes(reply.readAll().data())
    try:
        said = json.loads(body) if body else None
    except ValueError:
        said = None
    if reply.error() == QNetworkReply.NetworkError.NoError:
        done(said)
    else:
        failed(_words(said) or reply.errorString())
    reply.deleteLater()


def _words(said: object) -> str:
    """The node's own words in ``{"error": {"message": …}}``."""
    match said:
        case {"error": {"message": str(message)}}:
            return message
    return ""


def _timer(parent: QObject, interval: int, then: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval)
    timer.timeout.connect(then)
    return timer
