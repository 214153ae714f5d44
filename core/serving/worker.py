"""The worker process: torch, weights, caches, and a libp2p identity and streams of its own.

``python -m core.serving.worker PARENT [FOLDER [RUNTIME]]`` reads one line of JSON (``WorkerConfig``) from
standard input and writes lines of JSON about its progress to standard output. A later line
``{"drain": SECONDS}`` has it leave as planned: it serves on while its readers move;
``{"resize": [START, END]}`` has it serve other layers, around those that it holds, and say ``resized``. It
ends when standard input ends, so however its parent goes, it goes too; its p2pd goes with it. ``PARENT`` is
the parent's process id: when it has died, the worker removes ``FOLDER`` and the sockets that the parent
left in ``RUNTIME``.

The variable ``IDLEBLOOM_LOG=debug`` makes it log more. What is asked and answered is never logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from core.errors import DiskError, IdlebloomError
from core.meter import Caps
from core.serving.counts import Counts
from core.serving.loading import (
    cap_device,
    load,
    log_bytes,
    phase,
    read_ahead,
    see_one_gpu,
    wake_device,
)
from core.serving.orders import Order, WorkerConfig
from core.swarm.loop import new_event_loop
from core.terms import Because, PeerId, Span

if TYPE_CHECKING:
    from core.model.span import SpanModel
    from core.serving.donor import Donor
    from core.swarm.peer import Peer

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 0.5
"""How long an ending worker may take to tell others; then it is gone all the same."""
COUNT_SECONDS = 1.0
"""Between two reports of what was served."""


@dataclass(frozen=True)
class Traces:
    """What this process must not leave behind: its sockets, and what its parent left if that has died."""

    parent: int
    folder: str = ""
    runtime: str = ""

    @classmethod
    def of(cls, argv: Sequence[str]) -> Traces:
        return cls(int(argv[0]) if argv else os.getppid(), *argv[1:3])

    def remove(self) -> None:
        from core.swarm.daemon import is_gone, sweep

        if self.runtime:
            sweep(Path(self.runtime), ending=True)
        if self.folder and (os.getppid() != self.parent or is_gone(self.parent)):
            shutil.rmtree(self.folder, ignore_errors=True)

    def end(self, code: int) -> NoReturn:
        """Threads of torch or of a half-read file must not keep the memory a moment longer."""
        self.remove()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Exit code 0 when told to end, 1 after an error line."""
    level = logging.DEBUG if os.environ.get("IDLEBLOOM_LOG") == "debug" else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s worker %(levelname)s %(message)s")
    traces = Traces.of(sys.argv[1:])
    threading.Thread(target=_import_ahead, name="imports", daemon=True).start()
    line = _read_line()
    if not line:  # whoever started this has gone before saying what for
        traces.end(0)
    config = see_one_gpu(WorkerConfig.from_line(line))
    phase("told what to serve")
    for ahead in (read_ahead, wake_device):
        threading.Thread(target=ahead, args=(config,), name=ahead.__name__, daemon=True).start()
    traces = replace(traces, runtime=config.runtime)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            code = runner.run(_serve(config, traces))
        except BaseException:
            log.exception("the worker failed")
            code = 1
        traces.end(code)


def _import_ahead() -> None:
    """Imports what takes long while the parent still gathers what it will tell us."""
    import core.serving.donor
    import core.swarm.hive

    core.swarm.hive.load()


def _read_line() -> str:
    """The next line of standard input, without reading beyond it; empty at its end."""
    data = bytearray()
    while not data.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        data += byte
    return data.decode()


def _say(**fields: object) -> None:
    """One line to whoever started this; a parent that is gone hears nothing."""
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


def _loading(done: int, total: int) -> None:
    _say(event="loading", done=done, total=total)


async def _serve(config: WorkerConfig, traces: Traces) -> int:
    stop = asyncio.Event()
    orders: asyncio.Queue[Order] = asyncio.Queue()
    _end_with_parent(stop, orders, traces)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    donating, stopping = asyncio.create_task(_donate(config, orders)), asyncio.create_task(stop.wait())
    await asyncio.wait({donating, stopping}, return_when=asyncio.FIRST_COMPLETED)
    donating.cancel()
    await asyncio.wait({donating}, timeout=FAREWELL_SECONDS)
    if stop.is_set() or donating.cancelled() or not donating.done():
        return 0
    from core.serving.device import first_line

    error = donating.exception()
    if error is None:  # it has left as planned
        return 0
    if isinstance(error, IdlebloomError):
        _say(event="error", message=str(error), disk=isinstance(error, DiskError))
    else:
        log.error("the worker failed", exc_info=error)
        _say(event="error", message=f"unexpected {type(error).__name__}: {first_line(error)}")
    return 1


async def _donate(config: WorkerConfig, orders: asyncio.Queue[Order]) -> None:
    """Serves until cancelled, or until it has left as ordered; raises when it cannot, or can no longer."""
    from core.swarm.p2p import start_peer
    from core.swarm.secret import Secret

    async with AsyncExitStack() as stack:
        loading = asyncio.create_task(asyncio.to_thread(load, config, _loading, Span(*config.span)))
        stack.callback(loading.cancel)
        peer = await start_peer(
            identity=Path(config.identity),
            runtime=Path(config.runtime),
            initial_peers=config.peers,
            host=config.host,
            client_only=True,
            open_router_ports=config.open_router_ports,
            secret=Secret.from_text(config.secret) if config.secret else None,
            patient=True,
        )
        phase("the network is joined")
        stack.push_async_callback(peer.close)
        donor = _donor(peer, await loading, config)
        stack.push_async_callback(donor.stop)
        donor.metering.hold(Caps(config.upload_mbit, config.download_mbit))
        donor.metering.owner = PeerId(config.owner) if config.owner else None
        donor.metering.start()
        stack.callback(donor.metering.close)
        await donor.start()
        peer.watchers.append(donor.tell)
        peer.watchers.append(_telling_trouble(peer))
        phase("online")
        _say(event="online", peer_id=peer.peer_id, addresses=list(peer.addresses))
        counting = asyncio.create_task(_tell_counts(donor))
        stack.push_async_callback(_last_counts, donor)
        stack.callback(counting.cancel)
        obeying = asyncio.create_task(_obey(donor, config, orders))
        stack.callback(obeying.cancel)
        lost: asyncio.Future[Any] = asyncio.create_task(donor.lost.wait())
        stack.callback(lost.cancel)
        both: set[asyncio.Future[Any]] = {obeying, lost}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            raise IdlebloomError(
                f"{config.device} failed in a step ({donor.failure}); the worker ends and is started again"
            )
        await obeying


def _telling_trouble(peer: Peer) -> Callable[[], None]:
    """Tells what is wrong with this process's own network whenever that has changed."""
    told: Because | None = None

    def tell() -> None:
        nonlocal told
        if peer.trouble != told:
            told = peer.trouble
            _say(event="trouble", because=None if told is None else told.to_json())

    tell()
    return tell


async def _obey(donor: Donor, config: WorkerConfig, orders: asyncio.Queue[Order]) -> None:
    """Carries out orders one after the other until one is to leave, and leaves. Orders that take no time do
    not wait for those that do."""
    slow: asyncio.Queue[Order] = asyncio.Queue()
    resizing = asyncio.create_task(_obey_slow(donor, config, slow))
    try:
        while not resizing.done():
            coming = asyncio.ensure_future(orders.get())
            await asyncio.wait({coming, resizing}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                break
            order = coming.result()
            if order.only is not None:
                donor.serve_only(PeerId(order.only) if order.only else None)
            elif order.caps is not None:
                donor.metering.hold(order.caps)
            elif order.rest is not None:
                donor.rest_for(order.rest)
            elif order.goes:
                donor.goes_to(order.span)
            else:
                slow.put_nowait(order)
        await resizing
    finally:
        resizing.cancel()


async def _obey_slow(donor: Donor, config: WorkerConfig, orders: asyncio.Queue[Order]) -> None:
    while True:
        order = await orders.get()
        if order.span is None:
            await donor.drain(order.seconds)
            return
        if order.memory_cap:
            config = replace(config, memory_cap=order.memory_cap)
        await _resize(donor, config, order.span, order.seconds)


async def _tell_counts(donor: Donor) -> None:
    """What was served, whenever that is more than was told."""
    told, before = Counts(), None
    while True:
        await asyncio.sleep(COUNT_SECONDS)
        counts = donor.counts
        if before is not None:
            counts = replace(
                counts,
                up_rate=max(0, counts.up_bytes - before.up_bytes) / COUNT_SECONDS,
                down_rate=max(0, counts.down_bytes - before.down_bytes) / COUNT_SECONDS,
            )
        before = counts
        if counts != told:
            _say(event="counts", **counts.to_json())
            told = counts


async def _last_counts(donor: Donor) -> None:
    _say(event="counts", **donor.counts.to_json())


async def _resize(donor: Donor, config: WorkerConfig, span: Span, seconds: float) -> None:
    """A span that cannot be served leaves what is served as it is, as far as both have it."""
    from core.serving.device import is_out_of_memory

    trouble = ""
    try:
        await donor.resize(span, partial(load, config, _loading), seconds)
        if config.device == "cpu":
            donor.cap_memory(config.memory_cap)
        else:
            await asyncio.to_thread(cap_device, config)
    except IdlebloomError as error:
        trouble = str(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):  # a lost device says "illegal memory access"
            raise
        trouble = "there is too little memory for these layers"
    served = donor.model.span
    _say(event="resized", span=[served.start, served.end], trouble=trouble)


def _donor(peer: Peer, model: SpanModel, config: WorkerConfig) -> Donor:
    from core.serving.donor import Donor, DonorOptions

    return Donor(
        peer,
        model,
        DonorOptions(
            cache_tokens=config.cache_tokens,
            places=config.places,
            rest=config.rest,
            version=config.version,
            speculate=config.speculate,
            log_bytes=config.log_bytes or log_bytes(),
            memory_cap=config.memory_cap if config.device == "cpu" else 0,
            room=config.room,
        ),
    )


def _end_with_parent(stop: asyncio.Event, orders: asyncio.Queue[Order], traces: Traces) -> None:
    """Watches standard input in a thread. A line there is an order. At its end
    the parent has died or let go: the loop is asked to stop, and if it does not within its farewell,
    the process ends anyway."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while line := _read_line():
            with suppress(ValueError, KeyError, TypeError, RuntimeError):
                loop.call_soon_threadsafe(orders.put_nowait, Order.from_line(line))
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        time.sleep(3 * FAREWELL_SECONDS)
        traces.end(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    main()
