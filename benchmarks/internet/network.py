"""Hosts and their links, as a benchmark or a test sets them up.

    async with Internet([Host("a", 100, 100, 25), Host("b", 100, 100, 25)]) as net:
        process = await net.start("a", "ping", "-c", "3", net.address("b"))

Each host is a network namespace with one device; ``router`` carries the packets between them. Needs root
and ``ip`` (iproute2). What a killed run left behind is removed by the next one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.internet.router import DEVICE, Counters
from core.paths import code

PREFIX = "ibnet"
MTU = 1500
CONGESTION = "cubic"
"""What most computers at home use; BBR would need no loss to find a link's rate."""


@dataclass(frozen=True)
class Host:
    """A computer and its link. From one host to another it takes both hosts' delays; ``jitter_ms`` is the
    most that chance adds to one, ``loss`` the part of packets that is lost, either way. Behind ``nat`` only
    those are heard who were spoken to."""

    name: str
    up_mbit: float
    down_mbit: float
    delay_ms: float
    jitter_ms: float = 0.0
    loss: float = 0.0
    nat: bool = False


class Internet:
    """The hosts' addresses look public, so that libp2p takes them for what they stand for."""

    def __init__(self, hosts: Sequence[Host], *, mtu: int = MTU, congestion: str = CONGESTION) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.mtu, self.congestion = mtu, congestion
        self._numbers = {host.name: number for number, host in enumerate(hosts, 1)}
        self._cut: set[str] = set()
        self._router: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        sweep()
        try:
            for name in self.hosts:
                _ip("netns", "add", self.namespace(name))
            self._router = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.internet.router",
                cwd=code(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            await self._ask(
                mtu=self.mtu,
                congestion=self.congestion,
                hosts=[self._values(name) for name in self.hosts],
            )
            for name in self.hosts:
                self._configure(name)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def namespace(self, host: str) -> str:
        return f"{PREFIX}-{os.getpid()}-{self._numbers[host]}"

    def address(self, host: str) -> str:
        return f"11.77.0.{self._numbers[host]}"

    def prefix(self, host: str) -> tuple[str, ...]:
        """The words that make a command run on that host."""
        return "ip", "netns", "exec", self.namespace(host)

    async def start(self, host: str, *command: str, **options: Any) -> asyncio.subprocess.Process:
        """A process on that host; ``options`` as for ``create_subprocess_exec``."""
        return await asyncio.create_subprocess_exec(*self.prefix(host), *command, **options)

    async def set(self, host: str, **changes: float) -> None:
        """Changes a link while packets are on it: fields of ``Host``."""
        self.hosts[host] = replace(self.hosts[host], **changes)  # type: ignore[arg-type]
        await self._ask(**self._values(host))

    async def link_down(self, host: str) -> None:
        """Cuts a host off: packets vanish, and nobody is told."""
        self._cut.add(host)
        await self._ask(**self._values(host))

    async def link_up(self, host: str) -> None:
        self._cut.discard(host)
        await self._ask(**self._values(host))

    async def counters(self) -> dict[str, Counters]:
        """What each host has sent and received so far, headers included."""
        told = (await self._ask())["counters"]
        return {name: Counters(**told[self.address(name)]) for name in self.hosts}

    async def cpu_seconds(self) -> float:
        """Processor time of the router so far."""
        return float((await self._ask())["cpu_seconds"])

    def _values(self, name: str) -> dict[str, Any]:
        return {
            **asdict(self.hosts[name]),
            "address": self.address(name),
            "namespace": self.namespace(name),
            "connected": name not in self._cut,
        }

    def _configure(self, name: str) -> None:
        space = ("-n", self.namespace(name))
        _ip(*space, "link", "set", "lo", "up")
        _ip(*space, "address", "add", f"{self.address(name)}/16", "dev", DEVICE)
        _ip(*space, "link", "set", DEVICE, "mtu", str(self.mtu), "up")

    async def _ask(self, **fields: object) -> dict[str, Any]:
        router = self._router
        assert router is not None and router.stdin is not None and router.stdout is not None
        async with self._asking:
            router.stdin.write(json.dumps(fields).encode() + b"\n")
            line = await router.stdout.readline()
        if not line:
            raise RuntimeError("the router has ended")
        return json.loads(line)  # type: ignore[no-any-return]

    async def _end(self) -> None:
        if self._router is not None and self._router.stdin is not None:
            self._router.stdin.close()
            try:
                await asyncio.wait_for(self._router.wait(), 5)
            except TimeoutError:
                self._router.kill()
        _remove(self.namespace(name) for name in self.hosts)


def sweep() -> None:
    """Removes the namespaces of runs that are gone, and ends what still runs in them."""
    listed = json.loads(_ip("-j", "netns", "list") or "[]")
    names = [entry["name"] for entry in listed if entry["name"].startswith(f"{PREFIX}-")]
    _remove(name for name in names if not psutil.pid_exists(int(name.split("-")[1])))


def _remove(namespaces: Iterable[str]) -> None:
    for name in namespaces:
        with suppress(subprocess.CalledProcessError):  # it was never made
            for pid in _ip("netns", "pids", name).split():
                if int(pid) != os.getpid():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "delete", name)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
