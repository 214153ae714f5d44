"""A node with its door in this process, over three real worker processes that a test can kill and start: the
states that a swarm of three healthy donors does not have.

Their checkpoint is the bundled model as a stranger's: its card names a licence that restricts, and it holds
``LENGTH`` tokens.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from core.model.config import ref
from core.node.licences import RAIL, Licences
from core.node.reading import NodeReader
from core.paths import Paths, bundled_model
from core.preferences import Preferences
from core.swarm.identity import load_identity
from core.swarm.loop import new_event_loop
from core.swarm.watch import withdraw_for
from idlebloom.demo_swarm import DemoSwarm, Plan
from idlebloom.progress import Progress
from idlebloom.ways import NodeWays
from webchat.app import create_app
from webchat.door import Door
from webchat.history import History
from webchat.serve import Server

T = TypeVar("T")

LENGTH = 72
MIDDLE = 1
"""Who holds the middle of the three spans."""
REST_SECONDS = 0.03
CALL_SECONDS = 120.0


class SwarmHere:
    """Its loop runs in a thread of its own; the test's thread calls in."""

    def __init__(self, url: str, demo: DemoSwarm, licences: Licences) -> None:
        self.url, self.licences = url, licences
        self._demo, self._loop = demo, asyncio.get_running_loop()
        self._keys = {number: demo.folder / f"donor-{number + 1}.key" for number in range(3)}

    def lose(self) -> None:
        """The only holder of the middle is killed; as after any death that a PC sees, its node says so to the
        swarm."""
        self._call(self._lose())

    async def _lose(self) -> None:
        demo, worker = self._demo, self._demo.holder(MIDDLE)
        assert worker is not None
        demo.unplugged.add(worker)
        os.kill(worker.process.pid, signal.SIGKILL)
        await worker.ended()
        identity = load_identity(self._keys[MIDDLE])
        assert await withdraw_for(
            demo.node.peer.directory, identity, ref(demo.plan.model.config), time.time()
        )
        assert not (await demo.node.look()).whole

    def heal(self) -> None:
        """Another donor takes over the middle."""
        self._call(self._heal())

    async def _heal(self) -> None:
        worker = await self._demo.add_worker(MIDDLE)
        await worker.online()
        self._keys[MIDDLE] = self._demo.folder / f"donor-{len(self._demo.workers)}.key"
        assert (await self._demo.node.look()).whole

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)


def restricted(folder: Path) -> Path:
    """The bundled model as somebody else's."""
    copy = folder / "small-bloom"
    shutil.copytree(bundled_model(), copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"seq_length": LENGTH, "_name_or_path": ""}))
    (copy / "README.md").write_text(f"---\nlicense: {RAIL}\n---\n")
    return copy


@contextmanager
def swarm_here(folder: Path) -> Iterator[SwarmHere]:
    """``folder`` is empty."""
    opened: concurrent.futures.Future[SwarmHere] = concurrent.futures.Future()
    ends: concurrent.futures.Future[asyncio.Event] = concurrent.futures.Future()

    async def run() -> None:
        end = asyncio.Event()
        ends.set_result(end)
        plan = Plan.make(restricted(folder), None, 3, 1, REST_SECONDS)
        paths = Paths.of(folder / "data").make()
        async with DemoSwarm(plan, Progress(quiet=True)) as demo:
            assert await demo.ready(end)
            demo.node.licences = Licences(paths.licences_file)
            ways = NodeWays(paths, Preferences(paths.settings_file))
            history = History(demo.folder / "history.sqlite3")
            app = create_app(NodeReader(demo.node, None), Door(), history, ways=ways)
            server = Server(app, port=0)
            server.start()
            try:
                opened.set_result(SwarmHere(server.url, demo, demo.node.licences))
                await demo.until(end)
            finally:
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(app.extensions["answers"].close)
                history.close()

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                loops.append(runner.get_loop())
                runner.run(run())
        except BaseException as error:
            if not opened.done():
                opened.set_exception(error)
            raise

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=work, name="swarm")
    thread.start()
    try:
        yield opened.result(CALL_SECONDS)
    finally:
        with suppress(RuntimeError):  # it has ended by itself
            loops[0].call_soon_threadsafe(ends.result().set)
        thread.join(30)
        assert not thread.is_alive()
