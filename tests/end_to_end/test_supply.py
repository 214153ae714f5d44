"""From “this PC may give so much” to “these layers are online”: a model on a hub of this PC, fetched,
quantized, served, grown and shrunk by real programs."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from core import json_file
from core.model.config import SOURCE_FILE, read_config
from core.model.weights import Checkpoint, span_tensors
from core.node.placing import Means, fitting
from core.paths import bundled_model
from core.serving.loading import fast_dtype
from core.serving.orders import WorkerConfig
from core.serving.supervisor import Worker
from core.terms import Span
from tests.end_to_end.programs import (
    START_SECONDS,
    Folder,
    Program,
    disk,
    fill_disk,
    folder,
    resize_disk,
    until,
)
from tests.hub_server import COMMIT, FakeHub, Fault, serve

MODEL = "maker/demo"
QUESTION = "What is Idlebloom?"
NO_SPACE = "no space left on device"
HOLE = Span(3, 6)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """The bundled model, on a hub."""
    with serve() as opened:
        original = tmp_path_factory.mktemp("hub") / "model"
        shutil.copytree(bundled_model(), original)
        opened.models[MODEL] = original
        yield opened


@pytest.fixture
def place() -> Iterator[Folder]:
    with folder() as opened:
        yield opened


def environment(hub: FakeHub) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "NO_PROXY": "*", "HF_TOKEN": ""}


@pytest_asyncio.fixture
async def others(hub: FakeHub, place: Folder, tmp_path: Path) -> AsyncIterator[str]:
    """A meeting point, and donors of all layers but the hole's; yields the meeting point's address."""
    copy = tmp_path / "model"
    shutil.copytree(hub.models[MODEL], copy)
    (copy / SOURCE_FILE).write_text(json.dumps({"model_id": MODEL, "revision": COMMIT, "files": []}))
    meeting = place.start("bootstrap", "--host", "127.0.0.1", "--json")
    (address,) = json.loads(meeting.line())["addresses"]
    workers = []
    for number, span in enumerate(((0, 3), (6, 10))):
        runtime = tmp_path / f"run-{number}"
        runtime.mkdir()
        worker = await Worker.start(log=tmp_path / f"{number}.log", threads=1)
        worker.configure(
            WorkerConfig(
                str(copy), span, str(tmp_path / f"{number}.key"), str(runtime), peers=(address,), threads=1
            )
        )
        workers.append(worker)
    for worker in workers:
        await worker.online()
    yield address
    for worker in workers:
        await worker.stop()


def choose(place: Folder, **values: object) -> None:
    """As ``idlebloom settings set`` writes them, without a process for each."""
    json_file.write(place.path / "data" / "settings.json", values)


def ram_for(layers: int) -> str:
    """GB that serving may take so that just so many blocks fit."""
    config, means = read_config(bundled_model()), Means(dtype=fast_dtype())
    for megabytes in range(400, 2000):
        ends = fitting(config, means, megabytes * 10**6, stored=2).ends()
        if all(end - start >= layers for start, end in enumerate(ends[1:6], 1)):
            return str(megabytes / 1000)
    raise AssertionError("nothing fits")


def states(place: Folder) -> dict[str, Any]:
    return place.look("/api/status?once=1")


def said(place: Folder) -> str:
    """State and reason, in the words of the page."""
    found = states(place)
    return f"{found['state']}: {(found['reason'] or {}).get('text', '')}"


def online(place: Folder, *, troubled: bool = False) -> dict[str, Any]:
    """Waits until it serves; trouble on the way is a failure unless it was ``troubled`` before."""
    latest: dict[str, Any] = {}

    def gives() -> bool:
        latest.update(states(place))
        if latest["state"] == "trouble" and not troubled:
            print("LOG", (place.path / "data" / "worker.log").read_text()[-5000:])
            raise AssertionError(str(latest["reason"]))
        return bool(latest["state"] == "giving")

    until(gives, START_SECONDS, "giving")
    return latest


def headers(original: Path) -> int:
    return 8 + int.from_bytes((original / "model.safetensors").read_bytes()[:8], "little")


def bytes_of(original: Path, span: Span) -> int:
    return Checkpoint(original).check(span_tensors(read_config(original), span, tied=True))


def start(place: Folder, hub: FakeHub, address: str) -> Program:
    program = place.start("node", "--port", "0", "--json", "--peers", address, environment=environment(hub))
    program.ready()
    return program


def end(program: Program) -> None:
    program.send(signal.SIGTERM)
    assert program.wait(10) == 0
    assert program.err == ""


async def test_a_hole_is_filled_from_an_empty_cache(hub: FakeHub, place: Folder, others: str) -> None:
    """Only the span's bytes are fetched and the hole is gone; a second start fetches nothing; the worker's
    network dies and comes back; more memory makes the span grow and less makes it shrink while the worker
    lives; 8 bits are made once."""
    original = hub.models[MODEL]
    choose(place, model=f"{MODEL}@{COMMIT}", ram_gb=float(ram_for(len(HOLE))), donate="always")

    node = start(place, hub, others)
    assert online(place)["span"] == {"start": HOLE.start, "end": HOLE.end}
    until(lambda: states(place)["swarm"]["whole"], 20, "whole")
    exact = bytes_of(original, HOLE) + headers(original)
    assert exact <= hub.weights() <= 1.01 * exact
    answer = place.answer("ask", QUESTION, "--greedy")
    assert answer["text"].strip().startswith("Idlebloom")
    assert [(stage["start"], stage["end"]) for stage in answer["route"]] == [(0, 3), (3, 6), (6, 10)]
    end(node)

    sent, asked = hub.weights(), len(hub.asked)
    node = start(place, hub, others)
    assert online(place)["span"] == {"start": HOLE.start, "end": HOLE.end}
    assert (hub.weights(), len(hub.asked)) == (sent, asked)

    (worker,) = node.workers()
    node.daemon_of(worker).kill()
    until(lambda: "the network process is started again" in said(place), 20, "said")
    online(place, troubled=True)
    place.run("settings", "set", "ram_gb", ram_for(len(HOLE) + 2))
    until(lambda: _length(place) > len(HOLE), START_SECONDS, "grown")
    grown = _span(place)
    assert HOLE in grown
    assert hub.weights() == sent + bytes_of(original, grown) - bytes_of(original, HOLE)
    place.run("settings", "set", "ram_gb", ram_for(len(HOLE)))
    until(lambda: _span(place) == HOLE, START_SECONDS, "shrunk to what nobody else has")
    assert [one.pid for one in node.workers()] == [worker.pid]

    place.run("settings", "set", "ram_gb", ram_for(len(HOLE) + 2))
    place.run("settings", "set", "quantization", "int8")
    until(lambda: [one.pid for one in node.workers()] != [worker.pid], START_SECONDS, "another worker")
    online(place)
    kept = {path: path.stat().st_ino for path in (place.path / "data").rglob("quantized/**/h.*.safetensors")}
    assert {
        f"h.{layer - 1}.safetensors" for layer in range(max(1, _span(place).start), min(9, _span(place).end))
    } <= {path.name for path in kept}
    end(node)
    sent = hub.weights()
    node = start(place, hub, others)
    online(place)
    assert hub.weights() == sent
    assert {path: path.stat().st_ino for path in kept} == kept, "quantized once"
    end(node)


def _span(place: Folder) -> Span:
    found = states(place)["span"]
    return Span(found["start"], found["end"])


def _length(place: Folder) -> int:
    return len(_span(place))


def test_killed_while_it_fetches(hub: FakeHub, place: Folder) -> None:
    """A node that is killed again and again while it fetches ends with the same bytes, and asks for none
    twice beyond what the last chunk held."""
    hub.sent.clear()
    choose(place, model=f"{MODEL}@{COMMIT}", donate="always")
    hub.always = Fault(rate=4e6)
    kills = 2
    try:
        for _ in range(kills):
            before = hub.weights()
            program = place.start("node", "--port", "0", "--json", environment=environment(hub))
            program.ready()
            until(lambda: states(place)["state"] == "fetching", START_SECONDS)
            time.sleep(0.4)
            program.send(signal.SIGKILL)
            program.wait()
            until(lambda before=before: hub.weights() > before, 10, "the server noticed")
    finally:
        hub.always = None
    program = place.start("node", "--port", "0", "--json", environment=environment(hub))
    program.ready()
    online(place)
    end(program)
    original = hub.models[MODEL]
    fetched = place.path / "data" / "cache" / "weights" / "maker--demo" / COMMIT
    everything = Span(0, read_config(original).layers)
    ours, theirs = Checkpoint(fetched), Checkpoint(original)
    for name in span_tensors(read_config(original), everything, tied=True):
        assert b"".join(ours.raw(name)) == b"".join(theirs.raw(name)), name
    # What was under way when it was killed: a piece on our side, and what lay in the sockets' buffers.
    assert hub.weights() <= bytes_of(original, everything) + headers(original) + kills * (4 << 20) + (1 << 20)


@pytest.mark.root  # a file system of its own is mounted
def test_a_licence_and_a_disk_that_is_full(hub: FakeHub, place: Folder, tmp_path: Path) -> None:
    """What comes under a licence is neither fetched, served nor answered by before that is accepted. A disk
    that runs full while layers come, and while they are quantized, is said with the way out; with room again
    the same node goes on from there by itself."""
    licensed = shutil.copytree(bundled_model(), tmp_path / "licensed")
    (licensed / "README.md").write_text("---\nlicense: bigscience-bloom-rail-1.0\n---\n")
    hub.models["maker/licensed"] = licensed
    hub.sent.clear()
    data, size = place.path / "data", 4 << 30
    quantized = data / "cache" / "weights" / "quantized"
    with ExitStack() as stack:
        stack.enter_context(disk(data, f"size={size}"))
        quantized.mkdir(parents=True)
        stack.enter_context(disk(quantized, "size=1m"))  # what is made of the layers does not fit
        choose(place, model="maker/licensed", donate="always", quantization="int8")
        node = place.start("node", "--port", "0", "--json", environment=environment(hub))
        node.ready()
        until(lambda: "idlebloom model accept" in said(place), START_SECONDS)
        assert said(place).startswith("waiting")
        asked = place.run("ask", QUESTION)
        assert (asked.process.returncode, asked.out) == (1, "")
        assert "idlebloom model accept" in asked.err and asked.err.count("\n") == 1
        assert hub.weights() == 0

        hub.always = Fault(rate=2e5)  # so slow that it is seen, however busy this PC is
        try:
            place.run("model", "accept", "--yes")
            until(lambda: states(place)["state"] == "fetching", START_SECONDS, "fetching")
            fill_disk(data)
            until(lambda: NO_SPACE in said(place), START_SECONDS, "said while it fetches")
            assert said(place).startswith("trouble") and str(quantized) not in said(place)
        finally:
            hub.always = None
        resize_disk(data, size)

        until(lambda: str(quantized) in said(place), START_SECONDS, "said while it quantizes")
        assert said(place).startswith("trouble") and NO_SPACE in said(place)
        resize_disk(quantized, size)
        online(place, troubled=True)
        assert hub.weights() < 1.2 * (licensed / "model.safetensors").stat().st_size
        node.send(signal.SIGTERM)
        assert node.wait(10) == 0
        # What it counts could not be kept meanwhile, either.
        assert all(NO_SPACE in line for line in node.err.splitlines()), node.err


def test_wrong_models_are_said(hub: FakeHub, place: Folder, tmp_path: Path) -> None:
    """Each in one line, with what to do, by the real command."""
    copies = {
        name: shutil.copytree(bundled_model(), tmp_path / name) for name in ("gated", "pickled", "llama")
    }
    (copies["pickled"] / "model.safetensors").rename(copies["pickled"] / "pytorch_model.bin")
    config = json.loads((copies["llama"] / "config.json").read_text())
    (copies["llama"] / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    hub.models.update({f"maker/{name}": path for name, path in copies.items()})
    hub.gated.add("maker/gated")

    def refusal(model: str, **changed: str) -> str:
        choose(place, model=model)
        program = place.start("node", "--port", "0", "--json", environment=environment(hub) | changed)
        program.close_input()
        assert program.wait() == 1 and program.err.count("\n") == 1, program.err
        return program.err

    nothing = refusal("maker/nothing")
    assert "there is no model maker/nothing" in nothing and "Check its spelling" in nothing
    assert "has no revision “v9”" in refusal(f"{MODEL}@v9")
    gated = refusal("maker/gated")
    assert "maker/gated is gated" in gated and "idlebloom model token" in gated
    assert "pickled weights only, which can run code" in refusal("maker/pickled")
    assert "a model of type 'llama', not BLOOM" in refusal("maker/llama")
    assert "cannot be reached: no connection. Check the network" in refusal(
        "maker/other", HF_ENDPOINT="http://127.0.0.1:9"
    )

    token = place.start("model", "token", "--json")
    assert token.process.stdin is not None
    token.process.stdin.write(b"hf_good\n")
    token.close_input()
    assert token.wait() == 0 and "hf_good" not in token.out
    choose(place, model="maker/gated")
    node = place.start("node", "--port", "0", "--json", environment=environment(hub))
    node.ready()
    end(node)
