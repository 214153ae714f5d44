"""The node under this tray on Windows: it runs in the Linux part, started through ``wsl.exe``.

It gets its door's token, its secrets, and what was set before there was a node, as a line on its standard
input; its address comes as a line on its standard output, and so does a secret that is changed there, for
Windows' keyring. Else it is spoken to over localhost. It ends when its input does, so with the tray, however
that ends.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer
from PySide6.QtNetwork import QTcpSocket

from core import json_file
from core.door import RunningNode
from core.errors import IdlebloomError
from core.handover import LIMIT, Handed, line
from core.paths import Paths
from core.secrets import Secret, Secrets, Vault, checked
from core.settings import Settings, changed
from core.settings import chosen as chosen_of
from core.words import _
from desktop import run_key
from desktop.node_process import PAUSES, TAIL, NodeProcess
from desktop.safe import Safe
from desktop.wsl import NAME, PROGRAM, SPEAKS, Wsl, decoded, gist
from desktop.wsl_troubles import trouble_in

REACH_SECONDS = 20.0
"""Windows gets so long to let the node's port through."""
REACH_MS = 500
OF_LINUX = {"data_dir"}
"""Settings that name a folder, which is another one on the other side."""
SLEEP_MS = 10_000
SLEPT_SECONDS = 30.0
"""A tick that comes so much later than it should: the PC has slept."""


class WslNode(NodeProcess):
    """Like ``NodeProcess``. What is in this side's settings file goes to the next node that starts."""

    def __init__(
        self,
        paths: Paths,
        wsl: Wsl,
        parent: QObject | None = None,
        *,
        pauses: tuple[float, ...] = PAUSES,
        reach_seconds: float = REACH_SECONDS,
        at_login: Callable[[bool], None] = run_key.follow,
        starts_at_login: Callable[[], bool] = run_key.there,
        vault: Vault | None = None,
    ) -> None:
        super().__init__(paths, wsl.inside(PROGRAM), parent, pauses)
        self._safe = Safe(vault or Secrets(paths.secrets_file), self)
        self._safe.opened.connect(self._start_with)
        self._safe.noticed.connect(self.noticed)
        self._wsl, self._reach_seconds, self._at_login = wsl, reach_seconds, at_login
        self._starts_at_login = starts_at_login
        self._out, self._line = b"", b""
        self._door: RunningNode | None = None
        self._since = 0.0
        self._clock = QProcess(self)
        self._probe = QTcpSocket(self)
        self._probe.connected.connect(self._reached)
        self._probe.errorOccurred.connect(lambda _error: self._not_reached())
        self._ticked = time.time()
        self._sleep = QTimer(self)
        self._sleep.setInterval(SLEEP_MS)
        self._sleep.timeout.connect(self.tick)
        self._sleep.start()

    def _start(self) -> None:
        self._safe.open()

    def _start_with(self, known: Mapping[Secret, str]) -> None:
        """The keyring has answered."""
        if not self._wanted or self._process is not None:
            return
        token = secrets.token_urlsafe(32)
        process = QProcess(self)
        process.setProgram(self._program[0])
        process.setArguments([*self._program[1:], "node", "--owned", "--handover", "--json"])
        process.setProcessEnvironment(environment())
        process.readyReadStandardOutput.connect(lambda: self._read(process, token))
        process.readyReadStandardError.connect(lambda: self._hear(process))
        process.finished.connect(lambda: self._ended(process))
        process.errorOccurred.connect(lambda error: self._failed(process, error))
        self._process, self._said, self._door = process, "", None
        self._out, self._line = b"", b""
        self._set_clock()
        process.start()
        process.write(line(Handed(token, self._pending(), known)))

    def _hear(self, process: QProcess) -> None:
        self._said += decoded(bytes(process.readAllStandardError().data()))

    def _read(self, process: QProcess, token: str) -> None:
        """The node's own lines, once they are whole; wsl.exe's troubles come here too, and are kept."""
        said = self._line + bytes(process.readAllStandardOutput().data())
        *whole, self._line = said[-LIMIT:].split(b"\n")
        for raw in whole:
            try:
                found = json.loads(raw)
            except ValueError:
                self._out = (self._out + raw + b"\n")[-TAIL:]
                continue
            match found:
                case {"url": str(url)} if self._door is None:
                    self._door = RunningNode(url, process.processId(), token)
                    self._since = time.monotonic()
                    self._try()
                case {"secrets": changes}:
                    self._keep_secrets(changes)

    def _keep_secrets(self, changes: object) -> None:
        try:
            self._safe.keep(checked(changes))
        except ValueError:
            return  # no node of ours says such a thing

    # Settings

    def _pending(self) -> dict[str, object]:
        """What was set on this side and no node has heard of yet."""
        there = json_file.read(self._known)
        chosen = json_file.read(self._paths.settings_file)
        if not there and self._starts_at_login():
            chosen["start_at_login"] = True  # the setup was told so
        return {
            name: value
            for name, value in chosen.items()
            if name not in OF_LINUX and (name not in there or there[name] != value)
        }

    def keep(self, settings: Mapping[str, object]) -> None:
        """The node's settings as they are now. This side keeps a copy, for while no node runs, and starts at
        login as they say."""
        try:
            here = {name: value for name, value in settings.items() if name not in OF_LINUX}
            chosen = chosen_of(changed(Settings(), here))
            json_file.write(self._paths.settings_file, chosen)
            json_file.write(self._known, chosen)
            self._at_login(bool(settings.get("start_at_login")))
        except (IdlebloomError, OSError):
            return  # asked again with the next node or the next look at the settings

    @property
    def _known(self) -> Path:
        return self._paths.state / "handed.json"

    # Whether Windows lets its port through

    def _try(self) -> None:
        if self._door is not None and self._process is not None:
            host, _colon, port = self._door.url.removeprefix("http://").partition(":")
            self._probe.abort()
            self._probe.connectToHost(host, int(port))

    def _reached(self) -> None:
        self._probe.abort()
        if self._door is not None and self._process is not None:
            self._attach(self._door)

    def _not_reached(self) -> None:
        if self._door is None or self._running is not None or self._process is None:
            return
        if time.monotonic() - self._since < self._reach_seconds:
            QTimer.singleShot(REACH_MS, self._try)
            return
        self._said = _(
            "The node runs in Windows' Linux, but Windows does not let {url} through. If there is a file "
            ".wslconfig in your user folder, remove localhostForwarding=false from it; then open the "
            "Terminal, type: wsl.exe --shutdown – then start Idlebloom again."
        ).format(url=self._door.url)
        self._process.closeWriteChannel()

    # Its end, and the clock

    def _ended(self, process: QProcess) -> None:
        if process is self._process:
            self._read(process, "")  # a secret may be among its last words
        if process is self._process and self._running is None:
            out = "" if self._door else decoded(self._out + self._line)
            if trouble := trouble_in(f"{out}\n{self._said}"):
                self._said = str(trouble)
            elif not self._said:
                self._said = gist(out) if out.strip() else ""
        super()._ended(process)

    def tick(self) -> None:
        """After a sleep of the PC the virtual machine's clock is late."""
        now = time.time()
        slept, self._ticked = now - self._ticked - SLEEP_MS / 1000 > SLEPT_SECONDS, now
        if slept and self._process is not None:
            self._set_clock()

    def _set_clock(self) -> None:
        if self._clock.state() is QProcess.ProcessState.NotRunning:
            command = self._wsl.inside("/bin/date", "-s", f"@{time.time():.0f}", root=True)
            self._clock.setProcessEnvironment(environment())
            self._clock.start(command[0], command[1:])

    def stop(self) -> None:
        self._sleep.stop()
        self._probe.abort()
        process = self._process
        super().stop()
        if process is not None:
            self._read(process, "")  # its last words
        self._safe.close()
        self._clock.waitForFinished(1000)
        end = QProcess()
        end.setProcessEnvironment(environment())
        end.start(self._wsl.program, ["--terminate", NAME])
        end.waitForFinished(5000)


def environment() -> QProcessEnvironment:
    """For wsl.exe, as ``desktop.wsl`` has it."""
    found = QProcessEnvironment.systemEnvironment()
    for name, value in SPEAKS.items():
        found.insert(name, value)
    return found
