"""Donors to be disturbed: every layer on two of them, each a real worker process.

    async with replicas(folder, spans) as swarm:
        generator = swarm.generator()
        await swarm.places[0].suffer("kill")

They are on loopback, or with ``hosts`` each on a host of its own on ``benchmarks.internet``, whose link can
be cut; that needs root. A place is one donor's: when its process has gone, another takes it, with the same
identity on another port. Both places of a span are never disturbed at once: the lock of ``Pair`` sees to it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from benchmarks.forked import Forge, forge
from benchmarks.internet.network import Host, Internet
from benchmarks.internet.router import inside
from benchmarks.wide_area.swarm import CLIENT
from core.errors import IdlebloomError
from core.model.config import read_config
from core.model.text import Text
from core.routing.generate import Generator
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.swarm.p2p import start_peer
from core.swarm.peer import Peer
from core.terms import PeerId, Span

KINDS = {
    "kill": "SIGKILL of the worker",
    "network": "SIGKILL of its p2pd, which the worker starts anew",
    "hang": "SIGSTOP of the worker for a while, then SIGCONT",
    "hang, kill": "SIGSTOP of the worker for a while, then SIGKILL",
    "freeze": "SIGSTOP of its p2pd for a while, then SIGCONT",
    "restart": "the worker is told to end, and another started",
    "leave": "the worker leaves as planned, and another is started",
}
"""What is done to a donor."""
CUT = "cut"
"""What is done besides to one on a host of its own: its link is down for a while, and nobody is told."""

HANG_SECONDS = (0.5, 3.0)
DRAIN_SECONDS = 5.0
TRIES = 3


@dataclass
class Pair:
    """Both donors of a span: one of them is disturbed at a time, until it is back."""

    span: Span
    role: str
    disturbed: asyncio.Lock = field(default_factory=asyncio.Lock)


class Place:
    """One donor after the other in the same place."""

    def __init__(
        self, number: int, pair: Pair, forge: Forge, config: WorkerConfig, net: Internet | None = None
    ) -> None:
        self.number, self.pair = number, pair
        self._forge, self._net, self._host = forge, net, f"d{number}"
        if net is not None:
            config = replace(config, host=net.address(self._host))
        identity = Path(config.runtime) / f"donor-{number}.key"
        self._config = replace(config, span=(pair.span.start, pair.span.end), identity=str(identity))
        self.worker: Worker | None = None

    @property
    def role(self) -> str:
        return self.pair.role

    @property
    def peer_id(self) -> PeerId | None:
        return self.worker.peer_id if self.worker is not None else None

    async def start(self) -> None:
        """Returns when a donor serves here. Raises ``WorkerFailed`` when none can after three tries."""
        runtime = Path(self._config.runtime)
        for attempt in range(1, TRIES + 1):
            namespace = self._net.namespace(self._host) if self._net is not None else ""
            log = runtime / f"donor-{self.number}.log"
            self.worker = await self._forge.worker(log, runtime, namespace)
            self.worker.configure(self._config)
            try:
                await self.worker.online()
            except IdlebloomError:
                if attempt == TRIES:
                    raise
            else:
                return

    async def stop(self) -> None:
        if self.worker is not None:
            await self.worker.stop()

    async def suffer(self, kind: str, seconds: float = 1.0) -> None:
        """Does one of ``KINDS`` to the donor; returns when one serves here again. ``seconds`` is how
        long it hangs."""
        worker = self.worker
        if worker is None:
            raise RuntimeError("there is nobody to be disturbed")
        if kind == CUT:
            await self._cut(seconds)
        else:
            await _do(kind, worker, seconds)
        if kind in {"hang", "freeze", "network", CUT}:  # it goes on, or joins the swarm anew
            with suppress(TimeoutError):
                await asyncio.wait_for(worker.ended(), 0.5)  # it may have given up meanwhile
            if worker.process.returncode is None:
                return
        await worker.ended()
        await self.start()

    async def _cut(self, seconds: float) -> None:
        if self._net is None:
            raise ValueError("a donor on loopback has no link to cut")
        await self._net.link_down(self._host)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._net.link_up(self._host)


async def _do(kind: str, worker: Worker, seconds: float) -> None:
    pid = worker.process.pid
    match kind:
        case "kill":
            _signal(pid, signal.SIGKILL)
        case "network":
            _signal(network(pid), signal.SIGKILL)
        case "hang" | "hang, kill" | "freeze":
            target = network(pid) if kind == "freeze" else pid
            _signal(target, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                _signal(target, signal.SIGKILL if kind == "hang, kill" else signal.SIGCONT)
        case "restart":
            await worker.stop()
        case "leave":
            await worker.drain(DRAIN_SECONDS)
        case _:
            raise ValueError(f"nobody knows how to {kind} a donor")


def network(pid: int) -> int:
    """The process id of a worker's p2pd, 0 if it has none."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            if child.name() == "p2pd":
                return child.pid
    return 0


def _signal(pid: int, number: signal.Signals) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Replicas:
    """Made by ``replicas``: two places a span, and the client."""

    def __init__(self, peer: Peer, folder: Path, places: Sequence[Place]) -> None:
        self.peer, self.folder, self.places = peer, folder, places
        self.config = read_config(folder)

    def generator(self) -> Generator:
        """The client that readers ask, as the node has one; but answers are as long as was asked for."""
        text = Text(self.folder)
        text.stops = frozenset()
        return Generator(self.peer, self.config, text)

    async def disturb(
        self,
        kind: str,
        chance: random.Random,
        wanted: Collection[PeerId] = (),
        strike: Callable[[PeerId | None], None] = lambda _: None,
    ) -> Place:
        """Does this to a donor drawn by chance, one of ``wanted`` where there is one, whose span is not
        being disturbed already (there must be one); returns when a donor serves in its place again.
        ``strike`` is told who it is, just before."""
        free = [place for place in self.places if not place.pair.disturbed.locked()]
        place = chance.choice([place for place in free if place.peer_id in wanted] or free)
        async with place.pair.disturbed:
            strike(place.peer_id)
            await place.suffer(kind, chance.uniform(*HANG_SECONDS))
        return place


@asynccontextmanager
async def replicas(
    folder: Path,
    spans: Sequence[Span],
    *,
    rest: float = 0.0,
    speculate: bool = True,
    hosts: Callable[[str], Host] | None = None,
) -> AsyncIterator[Replicas]:
    """Two donors for each span of the checkpoint in ``folder``, all serving when entered. They sleep
    ``rest`` seconds after each step, so that several answers are under way when one is disturbed. ``hosts``
    makes a host of a name: each donor gets one, and the client."""
    async with AsyncExitStack() as stack:
        net = None
        if hosts is not None:
            names = [CLIENT, *(f"d{number}" for number in range(2 * len(spans)))]
            net = await stack.enter_async_context(Internet([hosts(name) for name in names]))
            stack.enter_context(inside(net.namespace(CLIENT)))
        runtime = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True))
        )
        forking = await stack.enter_async_context(forge())
        own = {"host": net.address(CLIENT)} if net is not None else {}
        peer = await start_peer(identity=runtime / "client.key", runtime=runtime, reach="public", **own)
        stack.push_async_callback(peer.close)
        pairs = [Pair(span, _role(number, len(spans))) for number, span in enumerate(spans)]
        base = WorkerConfig(
            model=str(folder),
            span=(0, 0),
            identity="",
            runtime=str(runtime),
            peers=tuple(peer.addresses),
            dtype="float32",
            threads=1,
            rest=rest,
            speculate=speculate,
        )
        places = [Place(number, pair, forking, base, net) for number, pair in enumerate([*pairs, *pairs])]
        for place in places:
            stack.push_async_callback(place.stop)
        await asyncio.gather(*(place.start() for place in places))
        yield Replicas(peer, folder, places)


def _role(number: int, spans: int) -> str:
    if number == 0:
        return "entry"
    return "tail" if number == spans - 1 else "middle"
