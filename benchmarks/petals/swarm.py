"""A swarm of Petals' own servers and its own client, on loopback or on hosts of ``benchmarks.internet``.

async with petals_swarm(made, blocks, hosts=("s1", "s2", "s3"), net=net) as theirs:
    timing = await theirs.answer(ids, 24)
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.internet.network import Internet
from benchmarks.measure import Timing
from benchmarks.swarm_of_workers import Dtype

NAME = "bench/bloom"
ADDRESS = re.compile(r"/ip4/\S+/tcp/\d+/p2p/\w+")
START_SECONDS = 240.0
LINE_BYTES = 1 << 24


def as_hub_folder(checkpoint: Path, made: Path) -> Path:
    """The same weights where and as Petals looks for them: a hub's cache, names without a prefix."""
    snapshot = made / "hub" / f"models--{NAME.replace('/', '--')}" / "snapshots" / "main"
    if snapshot.exists():
        return made / "hub"
    snapshot.mkdir(parents=True)
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("main", "ascii")
    tensors = {}
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - it is no dictionary
                if not key.startswith("lm_head."):
                    tensors[key.removeprefix("transformer.")] = opened.get_tensor(key)
    save_file(tensors, snapshot / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    config |= {"architectures": ["BloomModel"], "torch_dtype": config.pop("dtype", "float32")}
    (snapshot / "config.json").write_text(json.dumps(config), "utf-8")
    return made / "hub"


@dataclass(frozen=True)
class Where:
    """Loopback, or one host a process."""

    net: Internet | None = None

    def prefix(self, host: str) -> tuple[str, ...]:
        return self.net.prefix(host) if self.net is not None else ()

    def address(self, host: str) -> str:
        return self.net.address(host) if self.net is not None else "127.0.0.1"


class Petals:
    """Made by ``petals_swarm``; a ``Contender``."""

    def __init__(self, client: asyncio.subprocess.Process) -> None:
        self._client = client

    async def answer(self, ids: Sequence[int], count: int) -> Timing:
        return (await self.answers([ids], count))[0]

    async def answers(self, prompts: Sequence[Sequence[int]], count: int) -> list[Timing]:
        """All prompts at once."""
        assert self._client.stdin is not None
        asked = {"prompts": [list(ids) for ids in prompts], "count": count}
        self._client.stdin.write(json.dumps(asked).encode() + b"\n")
        told = await _hear(self._client)
        return [Timing(one["asked"], tuple(one["times"]), tuple(one["ids"])) for one in told["answers"]]


async def _hear(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        if line.startswith(b"{"):
            return json.loads(line)  # type: ignore[no-any-return]
    raise RuntimeError("petals' client has ended")


@asynccontextmanager
async def petals_swarm(
    python: Path,
    hub: Path,
    blocks: Sequence[tuple[int, int]],
    hosts: Sequence[str],
    *,
    client: str = "client",
    dtype: Dtype = "bfloat16",
    net: Internet | None = None,
) -> AsyncIterator[Petals]:
    """A server for each part of the blocks, one a host; all are online when entered."""
    where = Where(net)
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="petals-")))
        environment = dict(
            os.environ,
            HF_HUB_CACHE=str(hub),
            HUGGINGFACE_HUB_CACHE=str(hub),
            PETALS_CACHE=str(hub),
            HF_HUB_OFFLINE="1",
            TRANSFORMERS_OFFLINE="1",
            OMP_NUM_THREADS="1",
            PYTHONWARNINGS="ignore",
        )
        environment.pop("PYTHONPATH", None)
        begun: list[asyncio.subprocess.Process] = []
        stack.push_async_callback(_end, begun)

        async def start(host: str, log: str, *words: str, **options: Any) -> asyncio.subprocess.Process:
            with (logs / log).open("wb") as opened:
                process = await asyncio.create_subprocess_exec(
                    *where.prefix(host),
                    str(python),
                    *words,
                    env=environment,
                    cwd=logs,
                    stderr=opened,
                    start_new_session=True,
                    **({"stdout": opened} | options),
                )
            begun.append(process)
            return process

        listen = ("--host_maddrs", f"/ip4/{where.address(client)}/tcp/0")
        await start(client, "dht.log", "-m", "petals.cli.run_dht", *listen)
        peer = await _until(logs / "dht.log", ADDRESS)
        for number, ((first, end), host) in enumerate(zip(blocks, hosts, strict=True)):
            serve = ("-m", "petals.cli.run_server", NAME, "--device", "cpu", "--torch_dtype", dtype)
            serve += ("--quant_type", "none", "--throughput", "1", "--skip_reachability_check")
            serve += ("--block_indices", f"{first}:{end}", "--initial_peers", peer)
            serve += ("--host_maddrs", f"/ip4/{where.address(host)}/tcp/0")
            await start(host, f"server-{number}.log", *serve)
        for number in range(len(blocks)):
            await _until(logs / f"server-{number}.log", re.compile("Started"))
        script = str(Path(__file__).with_name("client.py"))
        pipe = asyncio.subprocess.PIPE
        asking = await start(
            client, "client.log", script, NAME, dtype, peer, stdin=pipe, stdout=pipe, limit=LINE_BYTES
        )
        try:
            await _hear(asking)
            yield Petals(asking)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {_tail(logs / 'client.log')}") from error


async def _until(log: Path, wanted: re.Pattern[str]) -> str:
    """What matches first in a log."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if found := wanted.search(await asyncio.to_thread(log.read_text, "utf-8", "replace")):
            return found.group()
        await asyncio.sleep(0.2)
    raise RuntimeError(f"petals did not start: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-1500:]


async def _end(processes: Sequence[asyncio.subprocess.Process]) -> None:
    """Petals' processes often hang at their end, and leave children."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
