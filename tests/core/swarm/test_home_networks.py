"""PCs behind routers that only dial out, on an internet in user space."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchmarks.internet.network import Host, Internet
from benchmarks.internet.router import inside
from core.model.config import read_config
from core.model.text import Text
from core.paths import bundled_model, code
from core.routing.ask import Ask, Ended, Message, Started
from core.routing.generate import Generator
from core.serving.orders import WorkerConfig
from core.serving.supervisor import COMMAND, Worker
from core.swarm.p2p import start_peer
from core.swarm.reach import Access
from core.swarm.secret import Secret

LIMIT_SECONDS = 3
PUBLIC, HOMES, CLIENT = "public", ("home", "flat"), "cafe"
SPANS = ((0, 5), (5, 10))


@pytest.fixture
async def meeting(short_folder: Path) -> AsyncIterator[tuple[Internet, tuple[str, ...], str]]:
    """An internet, and a meeting point on it that cuts what it relays after a few seconds. This thread is on
    the host of the client."""
    secret = Secret.make().text
    hosts = [Host(PUBLIC, 100, 100, 2), *(Host(name, 100, 100, 2, nat=True) for name in (*HOMES, CLIENT))]
    async with Internet(hosts) as net:
        process = await net.start(
            PUBLIC,
            sys.executable,
            "-m",
            "tests.core.swarm.meeting_point",
            str(short_folder),
            net.address(PUBLIC),
            str(LIMIT_SECONDS),
            str(1 << 30),
            secret,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=code(),
        )
        assert process.stdin is not None and process.stdout is not None
        addresses = tuple(json.loads(await asyncio.wait_for(process.stdout.readline(), 30)))
        with inside(net.namespace(CLIENT)):
            yield net, addresses, secret
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 10)


@pytest.mark.root
async def test_who_only_dials_out_chats_through_a_meeting_point(
    meeting: tuple[Internet, tuple[str, ...], str], short_folder: Path
) -> None:
    """Two donors and a client, each behind a router of its own, in a private swarm: an answer goes on over
    relayed connections that are cut again and again, and records say how their donors are reached."""
    net, addresses, secret = meeting
    async with AsyncExitStack() as stack:
        workers = []
        for home, span in zip(HOMES, SPANS, strict=True):
            log = short_folder / f"{home}.log"
            worker = await Worker.start(log=log, threads=1, command=(*net.prefix(home), *COMMAND))
            stack.push_async_callback(worker.stop)
            worker.configure(
                WorkerConfig(
                    model=str(bundled_model()),
                    span=span,
                    identity=str(short_folder / f"{home}.key"),
                    runtime=str(short_folder / "run"),
                    peers=addresses,
                    host="0.0.0.0",
                    dtype="float32",
                    threads=1,
                    rest=0.03,
                    speculate=False,
                    secret=secret,
                )
            )
            workers.append(worker)
        await asyncio.gather(*(worker.online() for worker in workers))
        # Once nothing was cut in nine seconds, perhaps since the routers let each other through: then
        # another client tries.
        for number in range(3):
            peer = await start_peer(
                identity=short_folder / f"client-{number}.key",
                runtime=short_folder / "run",
                initial_peers=addresses,
                host="0.0.0.0",
                client_only=True,
                secret=Secret.from_text(secret),
            )
            stack.push_async_callback(peer.close)
            assert (peer.access, peer.reach) == (Access.CLOSED, "relay")
            generator = Generator(peer, read_config(bundled_model()), Text(bundled_model()))
            stack.push_async_callback(generator.leave)
            records = await generator.records(fresh=True)
            assert {record.reach for record in records} == {"relay"}
            assert all(any("/p2p-circuit/" in one for one in record.addresses) for record in records)
            text, seconds, events = await told(generator)
            assert text.startswith("Once") or len(text) > 40
            if "Moved" in events:
                break
        assert seconds > LIMIT_SECONDS and "Moved" in events, "no connection was cut meanwhile"


async def told(generator: Generator) -> tuple[str, float, list[str]]:
    """An answer, how long it took, and what happened."""
    events, began = [], asyncio.get_running_loop().time()
    async for event in generator.generate(Ask((Message("user", "Tell me a story"),))):
        events.append(type(event).__name__)
        if isinstance(event, Started):
            began = asyncio.get_running_loop().time()
        elif isinstance(event, Ended):
            return event.text, asyncio.get_running_loop().time() - began, events
    raise AssertionError("it did not end")
