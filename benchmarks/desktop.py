"""What an owner who is back waits for.

    python -m benchmarks.desktop [--tries N] [--minutes M] [--out FOLDER]

A PC on a virtual X server gives, a key is really pressed, and the time is taken until the driver counts no
byte of the worker's memory any more; a second donor in the swarm holds the same layers, and an answer is read
all the while. The GPU is the tests' stand-in: a process's memory is what the living process holds. What
waiting costs is measured by ``benchmarks.tray``.
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
from dataclasses import dataclass, field, replace
from pathlib import Path

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
IDLE_SECONDS = 3.0
UNLOCKED_SECONDS = 1.0
"""By then the node has seen that the screen is not locked any more."""
NOTES = (
    "*Back* is the time from a key press, as the X server takes it, to the moment at which the driver's "
    "stand-in counts no memory of the worker: seeing the key, telling readers, the end of the process. One "
    "node on this PC, the bundled model on the CPU, another donor of the same layers beside it, and answers "
    "read without a pause. Between two tries the screen is locked, so that the wait for idleness is none."
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


def back(tries: int, minutes: float) -> list[Row]:
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
            times = _tries(pc, gpu, tries, minutes)
            reader.stop()
            thread.join()
    times.sort()
    worst = times[min(len(times) - 1, int(0.99 * len(times)))]
    enough = len(times) >= ENOUGH
    beside = {"99th percentile": worst, "longest": times[-1], "answers read": reader.answers}
    return [
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


def _tries(pc: Desk, gpu: FakeGpu, most: int, minutes: float) -> list[float]:
    """As many as fit into the time, but for one that has begun."""
    keyboard, watch = Keyboard(pc.screen.name), GpuWatch(0)
    end, times = time.monotonic() + 60 * minutes, list[float]()
    keyboard.press()
    while len(times) < most and time.monotonic() < end:
        pressed = time.monotonic()
        _until_given(pc, pressed)
        times.append(_once(gpu, keyboard, watch))
    return times


def _until_given(pc: Desk, pressed: float) -> None:
    """It gives, the screen is open, and nobody is there."""
    pc.bus.locked = True
    pc.gives()
    time.sleep(max(0.0, pressed + IDLE_SECONDS + 0.2 - time.monotonic()))
    pc.bus.locked = False
    time.sleep(UNLOCKED_SECONDS)
    assert pc.look()["state"] == "giving", pc.look()


def _once(gpu: FakeGpu, keyboard: Keyboard, watch: GpuWatch) -> float:
    used = gpu.card.base + (64 << 20)
    assert gpu.card.total - watch.read(()).free_bytes > used, "the worker holds no memory"
    pressed = keyboard.press()
    while gpu.card.total - watch.read(()).free_bytes > gpu.card.base:
        time.sleep(0.002)
        assert time.perf_counter() - pressed < 30, "the memory stays"
    return time.perf_counter() - pressed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.desktop")
    parser.add_argument("--tries", type=int, default=ENOUGH, help=f"keys pressed ({ENOUGH})")
    parser.add_argument("--minutes", type=float, default=60, help="after which no more are pressed (60)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    results = Results("What an owner notices", NOTES, chosen.out, "desktop")
    started = Run.here(quick=False)
    rows = back(chosen.tries, chosen.minutes)
    results.put(rows, replace(started, quick=rows[0].value.count < ENOUGH))
    print(results.markdown())


if __name__ == "__main__":
    main()
