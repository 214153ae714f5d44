"""libp2p's daemon ``p2pd`` as a child process: its flags, its sockets' folder, its end.

It is started here and not by hivemind (whose ``P2P.replicate`` then attaches to it), so that it
starts while hivemind is still being imported, dies with this process even after ``kill -9``, keeps
its sockets in our own folder, and its death is noticed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from core.errors import SwarmError

log = logging.getLogger(__name__)

Reach = Literal["auto", "public", "private"]

_START_SECONDS = 15.0
_STOP_SECONDS = 3.0
_MAX_SOCKET_PATH = 107  # of sockaddr_un, less the final zero
_LONGEST_NAME = len("/listen.sock")
_CONTROL = "p2pd.sock"
_FLAGS, _PF_EXITING = 6, 0x4
"""Where a process's flags stand behind its name in /proc/PID/stat, and the one of a process that ends."""
_FALLBACK = Path("/tmp")  # noqa: S108 - a folder of our own with a random name is made in it


@dataclass(frozen=True)
class Relaying:
    """For how long and how much one way between two others is relayed, and how many for one of them."""

    seconds: int
    data: int
    circuits: int

    def words(self) -> list[str]:
        return [
            "-relayService=1",
            f"-relayTimeLimit={self.seconds}s",
            f"-relayDataLimit={self.data}",
            f"-relayMaxCircuits={self.circuits}",
        ]


FOR_STRANGERS = Relaying(30 * 60, 4 << 30, 16)
"""p2pd's own limits."""
FOR_MEMBERS = Relaying(30 * 24 * 3600, 1 << 50, 128)
"""Of a meeting point: a donor behind it talks with many, for days."""


@dataclass(frozen=True)
class Flags:
    """What p2pd is told. Ports are opened and others relayed only where the owner says so."""

    identity: Path
    listen: Sequence[str]
    client_only: bool
    reach: Reach = "auto"
    relaying: Relaying | None = None
    open_router_ports: bool = False
    relays: Sequence[str] = ()
    """Full addresses of peers that are asked to relay to this one: it cannot be dialled."""

    def words(self, control: Path) -> list[str]:
        return [
            f"-listen=/unix{control}",
            f"-id={self.identity}",
            f"-hostAddrs={','.join(self.listen)}" if self.listen else "-noListenAddrs",
            # libp2p's own DHT finds the addresses behind the peer ids that hivemind's DHT names.
            "-dhtClient=1" if self.client_only else "-dhtServer=1",
            f"-natPortMap={self.open_router_ports:d}",
            # Dials back others that ask whether they can be reached: only of use on such nodes.
            f"-autonat={self.reach == 'public':d}",
            *self._being_relayed(),
            "-connManager=1",
            "-tls=1",
            "-relay=1",  # the dialling side: without it nobody behind a relay could be reached
            *self._relay_service(),
            *{
                "auto": [],
                "public": ["-forceReachabilityPublic=1"],
                "private": ["-forceReachabilityPrivate=1"],
            }[self.reach],
            # Where there is no setpriv, this ends a daemon whose parent died before it said hello.
            "-idleTimeout=120s",
        ]

    def _being_relayed(self) -> list[str]:
        """Tried: only where p2pd believes that it cannot be reached does it ask a relay, and then at once;
        left to find out by itself it takes its time."""
        if not self.relays:
            return ["-autoRelay=0"]
        return ["-autoRelay=1", "-relayDiscovery=0", f"-trustedRelays={','.join(self.relays)}"]

    def _relay_service(self) -> list[str]:
        """Tried: ``-relayService=0``, even ``-relay=0``, leaves libp2p's small default relay (128 KiB,
        120 s a circuit) open to strangers. A service without room refuses them, for certain where
        the node is forced public; elsewhere what remains is at most that small relay."""
        if self.relaying is not None:
            return self.relaying.words()
        return ["-relayService=1", "-relayMaxReservations=0", "-relayMaxCircuits=0"]


class Daemon:
    """A running p2pd. The end of its output is its end: it starts no processes of its own."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process, self.folder = process, folder
        self.control, self.listener = folder / _CONTROL, folder / "listen.sock"
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._hello: asyncio.Future[None] = self._loop.create_future()
        self._partial = b""
        self._last_line = "it said nothing"
        assert process.stdout is not None
        self._output = process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._loop.add_reader(self._output.fileno(), self._on_output)

    @classmethod
    async def start(cls, flags: Flags, runtime: Path) -> Daemon:
        """Starts it and waits until it listens. Raises ``SwarmError``."""
        words, folder = [*_with_parent(), str(_binary())], socket_folder(runtime)
        environment = os.environ | {
            "GOLOG_LOG_LEVEL": "error",
            "GOLOG_LOG_FMT": "json",
            # Else it dials from the port that it listens at, and two peers that dial each other within
            # one delay, as neighbours in a new ring do, meet in a TCP connection that both began: its
            # handshake fails ("noise: message is too short"), and neither may try again for 5 s.
            "LIBP2P_TCP_REUSEPORT": "false",
        }
        try:
            # In this thread: when the thread that forked it ends, the kernel kills it.
            process = subprocess.Popen(  # noqa: ASYNC220 - returns within milliseconds
                [*words, *flags.words(folder / _CONTROL)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                env=environment,
                process_group=0,  # Ctrl-C in a terminal is for us, who then end it in order
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise SwarmError(f"the network process p2pd cannot be started: {error}", _REINSTALL) from error
        daemon = cls(process, folder)
        try:
            await daemon.hello()
        except BaseException:
            await daemon.stop()
            raise
        return daemon

    @property
    def alive(self) -> bool:
        return not self.ended.done()

    async def hello(self) -> None:
        """Waits until it listens; raises ``SwarmError`` if it does not come to that."""
        await asyncio.wait(
            {self._hello, self.ended}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if self.ended.done():
            raise SwarmError(f"the network process p2pd ended at its start: {_message(self._last_line)}")
        if not self._hello.done():
            raise SwarmError(f"the network process p2pd did not start within {_START_SECONDS:g} s")

    async def stop(self) -> None:
        """Ends it and removes its sockets."""
        if self.alive:
            self.process.terminate()
            await asyncio.wait({self.ended}, timeout=_STOP_SECONDS)
        if self.alive:
            self.process.kill()
            await self.ended
        shutil.rmtree(self.folder, ignore_errors=True)

    def _on_output(self) -> None:
        data = self._output.read(65536)
        if data is None:  # woken for nothing
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._last_line = line.decode(errors="replace").strip()
            log.debug("p2pd: %s", self._last_line)
            if self._last_line.startswith("Peer ID:") and not self._hello.done():
                self._hello.set_result(None)
        if not data:
            self._on_end()

    def _on_end(self) -> None:
        self._loop.remove_reader(self._output.fileno())
        self._output.close()
        try:
            self.process.wait(1.0)
        except subprocess.TimeoutExpired:  # it closed its output and lives: of no use to us
            self.process.kill()
            self.process.wait()
        self.ended.set_result(None)


def _message(line: str) -> str:
    """The message in a line of Go's JSON log, or the line."""
    with suppress(ValueError, AttributeError):
        line = json.loads(line).get("msg", line)
    return line[:300]


_REINSTALL = "Install hivemind again; its wheel for Linux carries p2pd."


def _binary() -> Path:
    """p2pd inside the installed hivemind, found without importing it."""
    spec = importlib.util.find_spec("hivemind")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(place) / "hivemind_cli" / "p2pd"
        if binary.exists():
            return binary
    raise SwarmError("the network process p2pd is not installed", _REINSTALL)


def _with_parent() -> list[str]:
    """A prefix with which the kernel kills the child when the thread that started it has ended."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        log.warning("setpriv is missing: p2pd may outlive a killed Idlebloom (install util-linux)")
        return []
    return [setpriv, "--pdeathsig", "KILL"]


def socket_folder(runtime: Path) -> Path:
    """A new private folder for one daemon's sockets, named for this process. Paths of unix sockets
    are short: where ``runtime`` is too long, the folder is made in /tmp."""
    name = f"p2p-{os.getpid()}-{secrets.token_hex(3)}"
    folder = runtime / name
    if len(os.fsencode(folder)) + _LONGEST_NAME > _MAX_SOCKET_PATH:
        folder = _FALLBACK / f"idlebloom-{name}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SwarmError(
            f"no folder for sockets can be made at {folder}: {error.strerror or error}",
            "Check that the folder belongs to you and has space.",
        ) from error
    return folder


def is_gone(pid: int) -> bool:
    """Whether this process has ended or is about to: the kernel closes its files, which is how others hear
    of it, a moment before it is no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return bool(int(stat.rpartition(")")[2].split()[_FLAGS]) & _PF_EXITING)
    except (OSError, IndexError, ValueError):
        return not psutil.pid_exists(pid)


def sweep(runtime: Path, *, ending: bool = False) -> None:
    """Removes the socket folders of processes that are gone: after ``kill -9`` they stay behind.
    ``ending``: this process's own too."""
    for folder in (*runtime.glob("p2p-*-*"), *_FALLBACK.glob("idlebloom-p2p-*-*")):
        pid = folder.name.split("-")[-2]
        if pid.isdigit() and (is_gone(int(pid)) or (ending and int(pid) == os.getpid())):
            shutil.rmtree(folder, ignore_errors=True)
