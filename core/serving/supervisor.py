"""A worker process as its parent sees it: started, told what to serve, heard, ended, or found dead.

The worker has a session of its own, so that Ctrl-C in a terminal reaches the parent alone, and ends
when its standard input does: dropping it is enough, killing its group is for one that does not.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import IdlebloomError
from core.meter import Caps
from core.paths import code, words
from core.serving.counts import Counts
from core.serving.orders import MOVE_SECONDS, WorkerConfig
from core.terms import Because, PeerId, Span

END_SECONDS = 0.7
"""How long a worker may take to end before its group is killed."""

COMMAND = (sys.executable, "-m", "core.serving.worker")

OnLoading = Callable[[int, int], None]
OnCounts = Callable[[Counts], None]


class WorkerFailed(IdlebloomError):
    """The worker ended by itself; the message holds its own last words. ``disk``: for want of space, or of
    another thing on the disk."""

    disk = False


@dataclass(frozen=True)
class Resized:
    """What a worker serves after it was told to serve other layers; ``trouble`` says why not those."""

    span: Span
    trouble: str = ""


class Worker:
    """One worker process; made by ``start``, told what to do by ``configure``. In between it imports
    its libraries, which takes longer than most of what follows."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.peer_id: PeerId | None = None
        self.own_only = False
        """It serves this PC's own sessions alone."""
        self.rest = 0.0
        """The part of the time that its device rests."""
        self.on_counts: OnCounts | None = None
        self.trouble: Because | None = None
        """What is wrong with its own network;"""
        self.on_trouble: Callable[[], None] | None = None
        """called when that has changed."""
        self._on_loading: OnLoading | None = None
        self._error, self._of_disk = "", False
        self._online = asyncio.Event()
        self._resizing: list[asyncio.Future[Resized]] = []
        self._ended = asyncio.create_task(self._watch())

    @classmethod
    async def start(
        cls,
        *,
        log: Path,
        threads: int = 0,
        remove: Path | None = None,
        runtime: Path | None = None,
        command: Sequence[str] = COMMAND,
    ) -> Worker:
        """Starts the process. Its standard error goes to the file ``log``. It removes the folder
        ``remove`` when this process dies, and the sockets that are left in ``runtime``, also before it was
        told anything. ``command`` may put something around it, such as a network namespace; it must become
        the worker, not start it. Raises ``WorkerFailed``."""
        # Few arenas: what many threads free would else stay with the process, and count against its cap.
        environment = {"MALLOC_ARENA_MAX": "2"} | dict(os.environ, PYTHONPATH=str(code()))
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        try:
            stderr = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise WorkerFailed(f"its log {log} cannot be written: {words(error)}") from error
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                str(os.getpid()),
                str(remove or ""),
                str(runtime or ""),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerFailed(f"the worker cannot be started: {words(error)}") from error
        finally:
            os.close(stderr)
        return cls(process)

    def configure(self, config: WorkerConfig, on_loading: OnLoading | None = None) -> None:
        self._on_loading = on_loading
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(config.to_line().encode())

    async def online(self) -> PeerId:
        """Returns when the worker serves; raises ``WorkerFailed`` with its words when it cannot."""
        waiting = asyncio.create_task(self._online.wait())
        try:
            await asyncio.wait({waiting, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:  # also where the owner is back before it serves
            waiting.cancel()
        if self.peer_id is None:
            raise self.failure()
        return self.peer_id

    async def ended(self) -> None:
        """Returns when the process is gone, for whatever reason."""
        await asyncio.wait({self._ended})

    def failure(self) -> WorkerFailed:
        """What to say of a worker that ended by itself."""
        code_ = self.process.returncode
        how = f"signal {-code_}" if code_ is not None and code_ < 0 else f"exit code {code_}"
        failed = WorkerFailed(self._error or f"the worker ended unexpectedly ({how})")
        failed.disk = self._of_disk
        return failed

    async def resize(self, span: Span, seconds: float = MOVE_SECONDS, memory_cap: int = 0) -> Resized:
        """Has the worker serve ``span``, around the layers that both have; readers of dropped ones have
        ``seconds`` to move. From then on it may take ``memory_cap`` bytes, 0: as before. Returns what it
        serves then; raises ``WorkerFailed`` if it ends instead."""
        answer: asyncio.Future[Resized] = asyncio.get_running_loop().create_future()
        self._resizing.append(answer)
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            order = {"resize": [span.start, span.end], "seconds": seconds, "memory_cap": memory_cap}
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
        both: set[asyncio.Future[Any]] = {answer, self._ended}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise self.failure()
        return answer.result()

    def serve_only(self, client: PeerId | None) -> None:
        """Serve the sessions of this peer alone from now on, others being given up at once; ``None``: of
        all."""
        self.own_only = client is not None
        self._order(only=client or "")

    def rest_for(self, part: float) -> None:
        """Have the device rest for this part of the time between steps."""
        self.rest = part
        self._order(rest=part)

    def going(self, span: Span | None) -> None:
        """Say to others that it will serve ``span``, whose layers are being fetched; ``None``: it stays."""
        self._order(going=[span.start, span.end] if span is not None else [])

    def hold(self, caps: Caps) -> None:
        """Keep to these caps on traffic from now on."""
        self._order(caps=[caps.upload, caps.download])

    def _order(self, **order: object) -> None:
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def drain(self, seconds: float) -> None:
        """Has the worker leave as planned: readers move while it serves. Returns when it has gone."""
        if self.process.stdin is not None:
            self.process.stdin.write(json.dumps({"drain": seconds}).encode() + b"\n")
        await asyncio.wait({self._ended}, timeout=seconds + END_SECONDS)
        await self.stop()

    async def stop(self) -> None:
        """Ends the worker; its memory is free when this returns."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        await asyncio.wait({self._ended}, timeout=END_SECONDS)
        if self.process.returncode is None:
            self._kill()
        await self.ended()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def _watch(self) -> None:
        """Hears what the worker says until it ends; then nothing of its group stays."""
        if self.process.stdout is not None:
            async for line in self.process.stdout:
                self._hear(line)
        await self.process.wait()
        self._kill()

    def _hear(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            event = said["event"]
        except (ValueError, KeyError, TypeError):
            return  # a library printed something
        if event == "loading" and self._on_loading is not None:
            self._on_loading(int(said["done"]), int(said["total"]))
        elif event == "online":
            self.peer_id = PeerId(said["peer_id"])
            self._online.set()
        elif event == "resized":
            answer = self._resizing.pop(0) if self._resizing else None
            if answer is not None and not answer.done():
                answer.set_result(Resized(Span(*said["span"]), str(said["trouble"])))
        elif event == "counts" and self.on_counts is not None:
            with suppress(ValueError):
                self.on_counts(Counts.read({**said, "worker": self.process.pid}))
        elif event == "trouble":
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                self.trouble = None if said["because"] is None else Because.read(said["because"])
                if self.on_trouble is not None:
                    self.on_trouble()
        elif event == "error":
            self._error, self._of_disk = str(said["message"]), bool(said.get("disk"))
