"""One tray a user: a second one shows the first one's window and ends."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

WAIT_MS = 500


def wake(file: Path) -> bool:
    """Ask a tray that runs already to show itself; whether there was one."""
    socket = QLocalSocket()
    socket.connectToServer(str(file))
    if not socket.waitForConnected(WAIT_MS):
        return False
    socket.disconnectFromServer()
    return True


class Single(QObject):
    """``woken``: another one was started."""

    woken = Signal()

    def __init__(self, file: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._greet)
        QLocalServer.removeServer(str(file))  # of a tray that was killed
        self._server.listen(str(file))

    def _greet(self) -> None:
        while (socket := self._server.nextPendingConnection()) is not None:
            socket.disconnected.connect(socket.deleteLater)
            self.woken.emit()

    def close(self) -> None:
        self._server.close()
