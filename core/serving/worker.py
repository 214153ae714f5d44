"""The worker process: torch, weights, caches, and a libp2p identity and streams of its own.

``python -m core.serving.worker PARENT [FOLDER]`` reads one line of JSON (``WorkerConfig``) from standard
input and writes lines of JSON about its progress to standard output. A later line ``{"drain": SECONDS}``
has it leave as planned: it serves on while its readers move. It ends when standard input ends, so
however its parent goes, it goes too; its p2pd goes with it. ``PARENT`` is the parent's process id: when
it has died, the worker removes ``FOLDER`` and the sockets that the parent left.

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
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import psutil

from core.errors import IdlebloomError, ModelError
from core.swarm.loop import new_event_loop
from core.terms import Span

if TYPE_CHECKING:
    from core.model.span import SpanModel
    from core.serving.donor import Donor
    from core.swarm.peer import Peer

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 0.5
"""How long an ending worker may take to tell others; then it is gone all the same."""


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker is told. ``span`` is in layers; ``threads`` 0 leaves it to torch."""

    model: str
    span: tuple[int, int]
    identity: str
    runtime: str
    peers: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    cache_tokens: int = 16_384
    places: int = 64
    threads: int = 0
    rest: float = 0.0
    speculate: bool = True
    ram_gb: float = 0.0
    """Host memory for logs of outputs; 0: 4 GB or a quarter of what is free, whichever is less."""
    version: str = ""

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> WorkerConfig:
        values = json.loads(line)
        return cls(**{**values, "span": tuple(values["span"]), "peers": tuple(values.get("peers", ()))})


@dataclass(frozen=True)
class Traces:
    """What this process must not leave behind: its sockets, and what its parent left if that has died."""

    parent: int
    folder: str = ""
    runtime: str = ""

    @classmethod
    def of(cls, argv: Sequence[str]) -> Traces:
        return cls(int(argv[0]) if argv else os.getppid(), *argv[1:2])

    def remove(self) -> None:
        from core.swarm.daemon import sweep

        if self.runtime:
            sweep(Path(self.runtime), ending=True)
        if self.folder and os.getppid() != self.parent:
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
    config = WorkerConfig.from_line(line)
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


async def _serve(config: WorkerConfig, traces: Traces) -> int:
    stop = asyncio.Event()
    leave: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    _end_with_parent(stop, leave, traces)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    donating, stopping = asyncio.create_task(_donate(config, leave)), asyncio.create_task(stop.wait())
    await asyncio.wait({donating, stopping}, return_when=asyncio.FIRST_COMPLETED)
    donating.cancel()
    await asyncio.wait({donating}, timeout=FAREWELL_SECONDS)
    if stop.is_set() or donating.cancelled() or not donating.done():
        return 0
    error = donating.exception()
    if error is None:  # it has left as planned
        return 0
    if isinstance(error, IdlebloomError):
        _say(event="error", message=str(error))
    else:
        log.error("the worker failed", exc_info=error)
        _say(event="error", message=f"unexpected {type(error).__name__}: {error}")
    return 1


async def _donate(config: WorkerConfig, leave: asyncio.Future[float]) -> None:
    """Serves until cancelled, or until it has left in the seconds that ``leave`` gives; raises when it
    cannot, or can no longer."""
    from core.swarm.p2p import start_peer

    async with AsyncExitStack() as stack:
        loading = asyncio.create_task(asyncio.to_thread(_load, config))
        stack.callback(loading.cancel)
        peer = await start_peer(
            identity=Path(config.identity),
            runtime=Path(config.runtime),
            initial_peers=config.peers,
            host=config.host,
            client_only=True,
        )
        stack.push_async_callback(peer.close)
        donor = _donor(peer, await loading, config)
        stack.push_async_callback(donor.stop)
        await donor.start()
        _say(event="online", peer_id=peer.peer_id, addresses=list(peer.addresses))
        died: asyncio.Future[None] = asyncio.create_task(peer.died())
        stack.callback(died.cancel)
        waiting: tuple[asyncio.Future[Any], ...] = (died, leave)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not leave.done():
            raise IdlebloomError("the worker's network process p2pd ended")
        await donor.drain(leave.result())


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
            log_bytes=log_bytes(config.ram_gb),
        ),
    )


def _load(config: WorkerConfig) -> SpanModel:
    import torch

    from core.model.span import SpanModel

    if config.threads:
        torch.set_num_threads(config.threads)
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    dtype = dtypes[config.dtype if config.dtype != "auto" else fast_dtype()]
    try:
        return SpanModel.load(
            Path(config.model),
            Span(*config.span),
            dtype=dtype,
            progress=lambda done, total: _say(event="loading", done=done, total=total),
        )
    except MemoryError as error:
        raise ModelError("there is too little memory for this span", "Serve fewer layers.") from error


def log_bytes(ram_gb: float) -> int:
    """Bytes for logs of outputs."""
    if ram_gb:
        return int(ram_gb * 1e9)
    return min(4_000_000_000, psutil.virtual_memory().available // 4)


def fast_dtype() -> Literal["float32", "bfloat16"]:
    """bfloat16 where the CPU computes in it, else float32."""
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        if "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags:
            return "bfloat16"
    return "float32"


def _end_with_parent(stop: asyncio.Event, leave: asyncio.Future[float], traces: Traces) -> None:
    """Watches standard input in a thread. A line there tells the worker to leave as planned. At its end
    the parent has died or let go: the loop is asked to stop, and if it does not within its farewell,
    the process ends anyway."""
    loop = asyncio.get_running_loop()

    def told(seconds: float) -> None:
        if not leave.done():
            leave.set_result(seconds)

    def watch() -> None:
        while line := _read_line():
            with suppress(ValueError, KeyError, TypeError, RuntimeError):
                loop.call_soon_threadsafe(told, float(json.loads(line)["drain"]))
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        time.sleep(3 * FAREWELL_SECONDS)
        traces.end(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    main()
