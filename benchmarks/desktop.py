"""What an owner who is back waits for, and what a node costs while it waits.

    python -m benchmarks.desktop [--tries N] [--seconds S] [--only back,waiting] [--out FOLDER]

*Back*: a PC on a virtual X server gives, a key is really pressed, and the time is taken until the driver
counts no byte of the worker's memory any more; a second donor in the swarm holds the same layers, and an
answer is read all the while. *Waiting*: the CPU time and memory of a node with its p2pd while it gives
nothing and nobody looks. The GPU is the tests' stand-in: a process's memory is what the living process holds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from Xlib import XK, X, display
from Xlib.ext import xtest

from benchmarks.measure import Bar, Interval, Results, Row, Run
from core.door import RunningNode, find_running
from core.errors import IdlebloomError
from core.pc.gpu import GpuWatch
from core.routing.ask import Ask, Ended, Message
from core.terms import Sampling
from idlebloom.remote import generate
from tests.end_to_end.desk import Desk, desk
from tests.end_to_end.programs import START_SECONDS, Folder, folder, until
from tests.fake_gpu import FakeGpu, build

ENOUGH = 200
"""Fewer tries say nothing of one in a hundred."""
QUESTION, TOKENS = "What is Idlebloom?", 60
NOTES = (
    "*Back* is the time from a key press, as the X server takes it, to the moment at which the driver's "
    "stand-in counts no memory of the worker: seeing the key, telling readers, the end of the process. One "
    "node on this PC, the bundled model on the CPU, another donor of the same layers beside it, and answers "
    "read without a pause. *Waiting* is a node that gives nothing, with its p2pd, while nobody looks at it."
)


class Keyboard:
    """Presses a key without a program to start: the X server itself takes it."""

    def __init__(self, name: str) -> None:
        self._display = display.Display(name)
        self._code = self._display.keysym_to_keycode(XK.string_to_keysym("a"))

    def press(self) -> float:
        """The time at which it was pressed."""
        pressed = time.perf_counter()
        for kind in (X.KeyPress, X.KeyRelease):
            xtest.fake_input(self._display, kind, self._code)
        self._display.sync()
        return pressed


@dataclass
class Reader:
    """Reads one answer after the other through a node, and compares them."""

    node: RunningNode
    answers: int = 0
    harmed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _expected: str = ""

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=lambda: asyncio.run(self._read()), daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._stop.set()

    async def _read(self) -> None:
        while not self._stop.is_set():
            try:
                text = await self._answer()
            except IdlebloomError as error:
                self.harmed.append(str(error))
                await asyncio.sleep(0.5)
                continue
            self._expected = self._expected or text
            if text != self._expected:
                self.harmed.append("another text")
            self.answers += 1

    async def _answer(self) -> str:
        async for event in generate(self.node, Ask((Message("user", QUESTION),), TOKENS, Sampling())):
            if isinstance(event, Ended):
                return event.text
        raise IdlebloomError("the answer has no end")


@contextmanager
def replica(place: Folder, peers: str) -> Iterator[RunningNode]:
    """Another donor of the whole model, and its page to read over."""
    for name, value in (("device", "cpu"), ("donate", "always"), ("swarm", peers)):
        assert place.run("settings", "set", name, value).process.returncode == 0
    place.start("node", "--port", "0").line()
    node = find_running(place.path / "data" / "run" / "door.json")
    until(lambda: node.request("/api/status?once=1")["state"] == "giving", START_SECONDS)
    yield node


def back(tries: int, results: Results, run: Run) -> None:
    with tempfile.TemporaryDirectory() as scratch, folder() as meeting_place, folder() as other:
        meeting = meeting_place.start("bootstrap", "--host", "127.0.0.1", "--json")
        peers = ",".join(meeting.ready()["addresses"])
        build(Path(scratch))
        gpu = FakeGpu(Path(scratch), Path(scratch) / "state")
        gpu.load()
        os.environ["FAKE_NVML_STATE"] = str(gpu.state)
        with replica(other, peers) as node, desk(gpu, swarm=peers) as pc:
            reader = Reader(node)
            thread = reader.start()
            keyboard, watch = Keyboard(pc.screen.name), GpuWatch(0)
            times = [_once(pc, gpu, keyboard, watch) for _ in range(tries)]
            reader.stop()
            thread.join()
    times.sort()
    worst = times[min(len(times) - 1, int(0.99 * len(times)))]
    enough = tries >= ENOUGH
    beside = {"99th percentile": worst, "longest": times[-1], "answers read": reader.answers}
    rows = [
        Row(
            name="back",
            what="first key to memory free",
            unit="s",
            value=Interval.of(times),
            threads=0,
            dtype="auto",
            beside=beside,
        ),
        Row(
            name="back-99",
            what="the same, 99th percentile",
            unit="s",
            value=Interval(times[int(0.98 * (len(times) - 1))], worst, times[-1], len(times)),
            threads=0,
            dtype="auto",
            bar=Bar(1.0, at_least=False) if enough else None,
        ),
        Row(
            name="harmed",
            what="answers harmed meanwhile",
            unit="",
            value=Interval(len(reader.harmed), len(reader.harmed), len(reader.harmed), reader.answers),
            threads=0,
            dtype="auto",
            bar=Bar(0, at_least=False) if enough else None,
            bound="; ".join(sorted(set(reader.harmed))),
        ),
    ]
    results.put(rows, run)


def _once(pc: Desk, gpu: FakeGpu, keyboard: Keyboard, watch: GpuWatch) -> float:
    pc.gives()
    time.sleep(0.5)
    used = gpu.card.base + (64 << 20)
    assert gpu.card.total - watch.read(()).free_bytes > used, "the worker holds no memory"
    pressed = keyboard.press()
    while gpu.card.total - watch.read(()).free_bytes > gpu.card.base:
        time.sleep(0.002)
        assert time.perf_counter() - pressed < 30, "the memory stays"
    return time.perf_counter() - pressed


def waiting(seconds: float, results: Results, run: Run) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        build(Path(scratch))
        gpu = FakeGpu(Path(scratch), Path(scratch) / "state")
        with desk(gpu, idle_minutes=1440) as pc:
            gpu.set(match=())
            time.sleep(10)
            processes = [pc.program.itself(), pc.program.daemon_of(pc.program.itself())]
            before = [_cpu(process) for process in processes]
            time.sleep(seconds)
            spent = [_cpu(process) - start for process, start in zip(processes, before, strict=True)]
            memory = [process.memory_full_info().pss / 1e6 for process in processes]
    part, held = 100 * sum(spent) / seconds, sum(memory)
    enough = seconds >= 600
    results.put(
        [
            Row(
                name="waiting-cpu",
                what="a node that waits, of one core",
                unit="%",
                value=Interval(part, part, part, 1),
                threads=0,
                dtype="",
                bar=Bar(1.0, at_least=False) if enough else None,
                beside={"node": 100 * spent[0] / seconds, "p2pd": 100 * spent[1] / seconds},
            ),
            Row(
                name="waiting-memory",
                what="a node that waits, memory with its p2pd",
                unit="MB",
                value=Interval(held, held, held, 1),
                threads=0,
                dtype="",
                bar=Bar(550, at_least=False),
                beside={"node": memory[0], "p2pd": memory[1]},
            ),
        ],
        run,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.desktop")
    parser.add_argument("--tries", type=int, default=ENOUGH, help=f"keys pressed ({ENOUGH})")
    parser.add_argument("--seconds", type=float, default=600, help="how long the node waits (600)")
    parser.add_argument("--only", default="back,waiting", help="back, waiting or both")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    results = Results("What an owner notices", NOTES, chosen.out, "desktop")
    run = Run.here(quick=chosen.tries < ENOUGH)
    if "waiting" in chosen.only:
        waiting(chosen.seconds, results, run)
    if "back" in chosen.only:
        back(chosen.tries, results, run)
    print(results.markdown())


if __name__ == "__main__":
    main()
