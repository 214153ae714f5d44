from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import close_session

from core.errors import DiskError, ModelError
from core.meter import Throttle
from core.model import parts
from core.model.config import ModelConfig, read_config
from core.model.fetch import Fetcher
from core.model.hub import Hub, Patience, Source
from core.model.parts import PartFile, is_intact
from core.model.progress import FetchProgress
from core.model.quantize import Quantization, stored_layers
from core.model.shelf import Shelf
from core.model.span import SpanModel
from core.model.store import store_of
from core.model.weights import Checkpoint, span_tensors
from core.terms import Span
from tests.hub_server import COMMIT, FakeHub, Fault, serve

Make = Callable[..., Path]
SINGLE, SHARDED = Source("maker/single"), Source("maker/sharded")
QUICK = Patience(tries=3, first=0.01, longest=0.05, silence=5)
ALL = Span(0, 5)


@pytest.fixture
def hub(make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one file as bloom-560m and an index over many shards as bloom."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serve() as hub:
        hub.models["maker/single"] = make_model(dtype=torch.float16, prefix=False)
        hub.models["maker/sharded"] = make_model(shard="130KB")
        for folder in hub.models.values():
            (folder / "tokenizer.json").write_text("{}")
        yield hub
        close_session()


def shelf(tmp_path: Path, cap: int | None = None) -> Shelf:
    return Shelf(tmp_path / "cache", cap, spare=0)


async def fetch(
    hub: FakeHub,
    room: Shelf,
    source: Source,
    span: Span,
    report: Callable[[FetchProgress], None] | None = None,
    *,
    rate: float | None = None,
    token: str | None = None,
    patience: Patience = QUICK,
) -> Path:
    async with Hub(endpoint=hub.url, patience=patience, throttle=Throttle(rate), token=token) as client:
        return await Fetcher(client, room).span(source, span, report)


def span_bytes(folder: Path, span: Span) -> int:
    """Bytes of the tensors of a span, from the original."""
    return Checkpoint(folder).check(span_tensors(read_config(folder), span, tied=True))


def header_bytes(folder: Path, names: set[str]) -> int:
    return sum(8 + int.from_bytes((folder / name).read_bytes()[:8], "little") for name in names)


def same_tensors(fetched: Path, original: Path, span: Span) -> bool:
    ours, theirs = Checkpoint(fetched), Checkpoint(original)
    wanted = span_tensors(read_config(original), span, tied=True)
    return all(torch.equal(ours.tensor(name), theirs.tensor(name)) for name in wanted)


@pytest.mark.parametrize("source", [SINGLE, SHARDED])
@pytest.mark.parametrize("span", [Span(1, 2), Span(2, 4), Span(0, 1), Span(4, 5), ALL])
async def test_only_the_spans_bytes_are_fetched(
    hub: FakeHub, tmp_path: Path, source: Source, span: Span
) -> None:
    """The server sends exactly the span's tensors and the headers of their files, and the span loads."""
    original = hub.models[source.model_id]
    folder = await fetch(hub, shelf(tmp_path), source, span)
    headers = header_bytes(original, {one.name for one in hub.sent if one.name.endswith(".safetensors")})
    assert hub.weights() == span_bytes(original, span) + headers
    assert same_tensors(folder, original, span)
    model = SpanModel.load(folder, span, dtype=torch.float32)
    assert (model.config.model_id, model.config.revision) == (source.model_id, COMMIT)


async def test_what_is_there_is_not_asked_for_again(hub: FakeHub, tmp_path: Path) -> None:
    """A second start asks the hub for nothing; a wider span fetches only what is new."""
    original = hub.models["maker/single"]
    await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 3))
    asked, sent = len(hub.asked), hub.weights()
    await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 3))
    assert len(hub.asked) == asked
    await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 4))
    assert hub.weights() - sent == span_bytes(original, Span(3, 4))


async def test_quantized_layers_are_not_fetched(hub: FakeHub, tmp_path: Path) -> None:
    """Once quantized, a span starts again without its weights: of a wider one only the rest is fetched."""
    room = shelf(tmp_path)
    quantized = room.root / "quantized"

    def held(folder: Path, config: ModelConfig) -> frozenset[int]:
        return stored_layers(store_of(quantized, folder, config, "nf4"), config)

    def load(folder: Path, span: Span) -> None:
        SpanModel.load(folder, span, dtype=torch.float32, quantization=Quantization.NF4, store=quantized)

    load(await fetch(hub, room, SINGLE, Span(1, 3)), Span(1, 3))
    for path in room.root.rglob("part-*.safetensors"):
        path.unlink()
    sent = hub.weights()
    async with Hub(endpoint=hub.url, patience=QUICK) as client:
        load(await Fetcher(client, room).span(SINGLE, Span(1, 3), held=held), Span(1, 3))
        assert hub.weights() == sent
        load(await Fetcher(client, room).span(SINGLE, Span(1, 4), held=held), Span(1, 4))
    assert hub.weights() - sent == span_bytes(hub.models["maker/single"], Span(3, 4))


async def test_the_tied_matrix_is_kept_once(hub: FakeHub, tmp_path: Path) -> None:
    """The head's matrix is not fetched again for layer 0."""
    room = shelf(tmp_path)
    await fetch(hub, room, SINGLE, Span(4, 5))
    sent = hub.weights()
    await fetch(hub, room, SINGLE, Span(0, 1))
    assert hub.weights() - sent < 1000


async def test_a_reader_fetches_no_weights(hub: FakeHub, tmp_path: Path) -> None:
    """A reader gets configuration and tokenizer, and not a byte of weights."""
    async with Hub(endpoint=hub.url, patience=QUICK) as client:
        folder = await Fetcher(client, shelf(tmp_path)).reader(SHARDED)
    assert (folder / "tokenizer.json").is_file() and (folder / "config.json").is_file()
    assert hub.weights() == 0


async def test_progress(hub: FakeHub, tmp_path: Path) -> None:
    """Progress never falls, ends at all bytes, and tells rate and time left on the way."""
    hub.always = Fault(rate=300_000)
    seen: list[FetchProgress] = []
    await fetch(hub, shelf(tmp_path), SHARDED, Span(1, 3), seen.append)
    done = [one.done for one in seen]
    assert done == sorted(done) and done[-1] == seen[-1].total
    assert any(one.rate > 0 and one.seconds_left is not None for one in seen)


async def test_cuts_are_mended(hub: FakeHub, tmp_path: Path) -> None:
    """A connection cut again and again goes on where it was: no byte is sent twice."""
    original = hub.models["maker/single"]
    hub.faults = [Fault(), Fault()] + [Fault(cut=10_000)] * 8
    folder = await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 3))
    assert hub.weights() == span_bytes(original, Span(1, 3)) + header_bytes(original, {"model.safetensors"})
    assert same_tensors(folder, original, Span(1, 3))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_troubled_server_is_asked_again(hub: FakeHub, tmp_path: Path, status: int) -> None:
    """Refusals that pass are outlasted, at the listing and at the files."""
    hub.faults = [Fault(status=status)] * 2 + [Fault()] * 2 + [Fault(status=status)] * 2
    hub.listing_faults = [Fault(status=status)] * 2
    await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 3))


async def test_trouble_ends_in_words(hub: FakeHub, tmp_path: Path) -> None:
    """A server that stays in trouble is given up after a bounded number of tries."""
    hub.always = Fault(status=500)
    with pytest.raises(ModelError, match="cannot be reached: it answers 500"):
        await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 3))
    assert sum(path.startswith("/cdn") for path in hub.asked) == QUICK.tries


def test_pauses_grow_and_heed_the_server() -> None:
    """Pauses double up to a limit; what the server asks for counts instead, up to five minutes."""
    patience = Patience()
    pauses = [patience.pause(tried, None) for tried in range(1, 12)]
    assert 0.8 <= pauses[0] <= 1.2 and 48 <= pauses[-1] <= 72
    assert patience.pause(1, 17) == 17 and patience.pause(1, 1e9) == 300


async def test_the_servers_wait_is_kept(hub: FakeHub, tmp_path: Path) -> None:
    """After 429 with Retry-After the next try comes no sooner."""
    hub.listing_faults = [Fault(status=429, retry_after="1")]
    started = time.monotonic()
    await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 2))
    assert time.monotonic() - started >= 1


async def test_silence_is_a_cut(hub: FakeHub, tmp_path: Path) -> None:
    """A server that goes silent is left and asked again."""
    hub.faults = [Fault(), Fault(), Fault(cut=5000, hang=True)]
    patience = Patience(tries=3, first=0.01, silence=0.5)
    folder = await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 2), patience=patience)
    assert same_tensors(folder, hub.models["maker/single"], Span(1, 2))


async def test_stops_at_once_and_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    """Cancelled while a server is silent, it ends within a second, and later goes on where it was."""
    hub.faults = [Fault(), Fault(), Fault(cut=20_000, hang=True)]
    task = asyncio.create_task(fetch(hub, shelf(tmp_path), SINGLE, Span(1, 2), patience=Patience()))
    assert await asyncio.to_thread(hub.hanging.wait, 60)
    await asyncio.sleep(0.2)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 1
    before = len(hub.sent)
    await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 2))
    again = hub.sent[before:]
    original = hub.models["maker/single"]
    assert sum(one.count for one in again) == span_bytes(original, Span(1, 2)) - 20_000


def test_killed_at_any_moment(hub: FakeHub, tmp_path: Path) -> None:
    """After kill -9 at any moment, no more than the last piece comes twice and the bytes are right."""
    original, piece, kills = hub.models["maker/single"], 16_384, 5
    hub.always = Fault(rate=150_000)
    script = textwrap.dedent(f"""
        import asyncio, os, random, signal, sys, time
        from pathlib import Path
        from core.model import parts
        from core.model.fetch import Fetcher
        from core.model.hub import Hub, Source
        from core.model.shelf import Shelf
        from core.terms import Span
        parts.PIECE = {piece}

        async def fetch():
            async with Hub(endpoint={hub.url!r}) as client:
                room = Shelf(Path({str(tmp_path)!r}) / "cache", None, spare=0)
                await Fetcher(client, room).span(Source("maker/single"), Span(1, 4))

        for kill in range({kills}):
            child = os.fork()
            if not child:
                asyncio.run(fetch())
                os._exit(0)
            time.sleep(random.Random(kill).uniform(0.1, 0.8))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        asyncio.run(fetch())
    """)
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=300)
    folder = tmp_path / "cache" / "maker--single" / COMMIT
    assert same_tensors(folder, original, Span(1, 4))
    assert all(is_intact(path) for path in folder.glob("part-*.safetensors"))
    headers = header_bytes(original, {"model.safetensors"})
    slack = kills * (piece + headers + 8192)  # a piece, a header not yet kept, and what was under way
    assert hub.weights() <= span_bytes(original, Span(1, 4)) + headers + slack


def test_a_reboot_costs_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crash of the PC left beyond the journal, or damaged, is dropped; the rest is kept."""
    monkeypatch.setattr(parts, "PIECE", 1000)
    part = parts.Part("part-h.0.safetensors", b"header..", (parts.Run("model.safetensors", 0, 5000),))
    first = PartFile(tmp_path, part)
    first.open()
    for _ in range(4):
        if first.append(bytes(500)):
            first.note()
    first.append(bytes(300))
    first.close()
    draft = tmp_path / "part-h.0.safetensors.partial"
    os.truncate(draft, 5008)  # the length arrived on the disk, the bytes did not
    second = PartFile(tmp_path, part)
    second.open()
    assert second.have == 1008 + 1000  # the header and 1,000 bytes, then 1,000 more
    second.close()
    data = bytearray(draft.read_bytes())
    data[1500] ^= 1
    draft.write_bytes(data)
    third = PartFile(tmp_path, part)
    third.open()
    assert 0 < third.have < 1500
    third.close()


async def test_a_whole_shard_is_held_to_the_hubs_hash(hub: FakeHub, tmp_path: Path) -> None:
    """A shard that arrives corrupted is fetched once more; corrupted twice, it is an error in words."""
    await fetch(hub, shelf(tmp_path), SINGLE, Span(0, 1))  # headers first
    hub.faults = [Fault(corrupt=True)]
    folder = await fetch(hub, shelf(tmp_path), SINGLE, ALL)
    assert same_tensors(folder, hub.models["maker/single"], ALL)
    shutil.rmtree(tmp_path / "cache")
    await fetch(hub, shelf(tmp_path), SINGLE, Span(0, 1))
    hub.always = Fault(corrupt=True)
    with pytest.raises(ModelError, match=r"model\.safetensors arrived damaged twice"):
        await fetch(hub, shelf(tmp_path), SINGLE, ALL)


@pytest.mark.parametrize("fault", [Fault(ignore_range=True), Fault(status=404), Fault(status=416)])
async def test_an_answer_that_was_not_asked_for(hub: FakeHub, tmp_path: Path, fault: Fault) -> None:
    """A server that ignores ranges, or has lost the file, is a sentence, not damaged weights."""
    hub.always = fault
    with pytest.raises(ModelError):
        await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 2))


async def test_the_rate_is_held(hub: FakeHub, tmp_path: Path) -> None:
    """With a cap on the rate, fetching takes as long as the cap says."""
    started = time.monotonic()
    size = span_bytes(hub.models["maker/single"], Span(1, 3))
    await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 3), rate=size / 1.5)
    assert time.monotonic() - started >= 1.0


async def test_a_gated_model(hub: FakeHub, tmp_path: Path) -> None:
    """Without a token, or with another's, the terms are named; with the token it is fetched, and the
    token stays with the hub."""
    hub.gated = {"maker/single"}
    for token in (None, "hf_wrong"):
        with pytest.raises(ModelError, match=r"is gated.* Accept its terms at http.*maker/single"):
            await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 2), token=token)
    await fetch(hub, shelf(tmp_path), SINGLE, Span(1, 2), token=hub.token)
    assert hub.tokens_at_cdn == []


@pytest.mark.parametrize(
    "text", ["bloom", "a/b/c", "../x", "a/..", "a b/c", "", "a/b@", "a/b@../x", "a/b@ x"]
)
def test_refuses_what_is_no_id(text: str) -> None:
    """What cannot be a model on a hub is refused before anybody is asked."""
    with pytest.raises(ModelError, match=r"is not a (model id|revision)"):
        Source.parse(text)


async def test_wrong_names_are_told_apart(hub: FakeHub, tmp_path: Path) -> None:
    """A model and a revision that do not exist are different sentences."""
    with pytest.raises(ModelError, match="there is no model maker/nothing"):
        await fetch(hub, shelf(tmp_path), Source("maker/nothing"), ALL)
    with pytest.raises(ModelError, match="no revision “v9”"):
        await fetch(hub, shelf(tmp_path), Source("maker/single", "v9"), ALL)


async def test_not_bloom_and_pickles(hub: FakeHub, tmp_path: Path) -> None:
    """Another architecture, pickled weights alone and no weights are refused before any weight is fetched."""
    folder = hub.models["maker/single"]
    for name, change in {
        "other": lambda copy: _set(copy / "config.json", model_type="llama"),
        "pickled": lambda copy: (copy / "model.safetensors").rename(copy / "pytorch_model.bin"),
        "empty": lambda copy: (copy / "model.safetensors").unlink(),
        "nothing": lambda copy: (copy / "config.json").unlink(),
    }.items():
        copy = shutil.copytree(folder, tmp_path / name)
        change(copy)
        hub.models[f"maker/{name}"] = copy
    for name, sentence in {
        "other": "of type 'llama', not BLOOM",
        "pickled": "pickled weights only",
        "empty": "holds no weights",
        "nothing": r"no config\.json",
    }.items():
        with pytest.raises(ModelError, match=sentence):
            await fetch(hub, shelf(tmp_path), Source(f"maker/{name}"), ALL)
    assert hub.sent == [] or hub.weights() == 0


def _set(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


async def test_no_network(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network a model that is there is served, and one that is not is a sentence."""
    room = shelf(tmp_path)
    await fetch(hub, room, SINGLE, Span(1, 2))
    gone = FakeHub(url="http://127.0.0.1:9")
    await fetch(gone, room, SINGLE, Span(1, 2))
    with pytest.raises(ModelError, match=r"cannot be reached: no connection\. Check the network"):
        await fetch(gone, room, SHARDED, Span(1, 2))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids"):
        await fetch(hub, room, SHARDED, Span(1, 2))


async def test_the_cap_drops_the_oldest(hub: FakeHub, tmp_path: Path) -> None:
    """When a new span does not fit beside the old ones, the one that was used longest ago goes."""
    size = span_bytes(hub.models["maker/single"], Span(1, 2))
    room = shelf(tmp_path, int(2.5 * size))
    folder = await fetch(hub, room, SINGLE, Span(1, 2))
    for layer in (1, 2):
        path = folder / f"part-h.{layer - 1}.safetensors"
        await fetch(hub, room, SINGLE, Span(layer, layer + 1))
        os.utime(path, (layer, layer))
    room.touch([folder / "part-h.0.safetensors"])
    await fetch(hub, room, SINGLE, Span(3, 4))
    left = {path.name for path in folder.glob("part-h.*.safetensors")}
    assert left == {"part-h.0.safetensors", "part-h.2.safetensors"}
    assert room.used() <= 2.5 * size
    with pytest.raises(DiskError, match=r"the cap for weights .*Raise the cap, or serve fewer layers"):
        await fetch(hub, room, SINGLE, ALL)
    assert {path.name for path in folder.glob("part-h.*.safetensors")} == left


async def test_a_disk_without_room(hub: FakeHub, tmp_path: Path) -> None:
    """Where the disk has not enough to give, nothing is fetched and the sentence says how much it has."""
    room = Shelf(tmp_path / "cache", None, spare=1 << 60)
    with pytest.raises(DiskError, match=r"are needed and the disk of .* to give\. Make room"):
        await fetch(hub, room, SINGLE, Span(1, 2))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KB; where none may be mounted, the test is skipped."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def kept(disk: Path) -> int:
    """Bytes of unfinished parts."""
    return sum(path.stat().st_size for path in disk.rglob("*.partial"))


@pytest.mark.root
async def test_a_disk_that_fills_up(hub: FakeHub, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that others fill meanwhile is one error in words, and the hub is asked no more."""
    monkeypatch.setattr(Shelf, "make_room", lambda *args, **kwargs: None)
    with pytest.raises(DiskError, match=r"no space left on device\. Make room on that disk"):
        await fetch(hub, Shelf(small_disk / "cache", None, spare=0), SINGLE, ALL)
    asked = len(hub.asked)
    await asyncio.sleep(0.2)
    assert len(hub.asked) == asked
    assert kept(small_disk)
