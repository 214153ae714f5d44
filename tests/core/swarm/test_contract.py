"""What holds for a peer, whether in memory or over libp2p."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import pytest

from core.swarm.identity import Identity
from core.swarm.peer import Peer, Stream, StreamClosed, Unreachable
from core.terms import DonorState, ModelRef, Record, Span

MakePeer = Callable[[], Awaitable[Peer]]
MODEL = ModelRef("bloom", "main", 26)


async def echo(stream: Stream) -> None:
    while True:
        size = await stream.read(4)
        stream.write(size, await stream.read(int.from_bytes(size)))
        await stream.drain()


def frame(data: bytes) -> tuple[bytes, bytes]:
    return len(data).to_bytes(4), data


def record(peer: Peer, span: Span) -> Record:
    return Record(peer.peer_id, MODEL, span, DonorState.ONLINE, 1.0, 0.0, addresses=peer.addresses)


async def test_frames_come_back_whole(make_peer: MakePeer) -> None:
    """Small frames and one of 1 MB pass both ways unchanged, written in parts."""
    alice, bob = await make_peer(), await make_peer()
    await bob.serve("echo", echo)
    stream = await alice.dial(bob.peer_id, bob.addresses, "echo")
    assert stream.remote == bob.peer_id
    for data in (b"x", os.urandom(2048), os.urandom(1 << 20)):
        stream.write(*frame(data))
        await stream.drain()
        assert await stream.read(4) == len(data).to_bytes(4)
        assert await stream.read(len(data)) == data


async def test_a_handler_knows_who_called(make_peer: MakePeer) -> None:
    """The id at the other end is the caller's, in both directions of dialling."""
    alice, bob = await make_peer(), await make_peer()
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def handler(stream: Stream) -> None:
        seen.put_nowait(stream.remote)
        await stream.read(1)

    await bob.serve("who", handler)
    await alice.serve("who", handler)
    (await alice.dial(bob.peer_id, bob.addresses, "who")).write(b"!")
    assert await seen.get() == alice.peer_id
    (await bob.dial(alice.peer_id, alice.addresses, "who")).write(b"!")
    assert await seen.get() == bob.peer_id


async def test_what_was_written_before_a_close_arrives(make_peer: MakePeer) -> None:
    """After the other side has closed, its last bytes are still read, then the end is told."""
    alice, bob = await make_peer(), await make_peer()
    last = os.urandom(300_000)

    async def handler(stream: Stream) -> None:
        await stream.read(2)
        stream.write(last)

    await bob.serve("last", handler)
    stream = await alice.dial(bob.peer_id, bob.addresses, "last")
    stream.write(b"go")
    assert await stream.read(len(last)) == last
    with pytest.raises(StreamClosed):
        await stream.read(1)
    assert stream.closed
    with pytest.raises(StreamClosed):
        stream.write(b"more")


async def test_closing_ends_the_other_side(make_peer: MakePeer) -> None:
    """The handler's read ends with StreamClosed when the caller closes, and so does our own."""
    alice, bob = await make_peer(), await make_peer()
    ended = asyncio.Event()

    async def handler(stream: Stream) -> None:
        try:
            await stream.read(10)
        except StreamClosed:
            ended.set()
            raise

    await bob.serve("wait", handler)
    stream = await alice.dial(bob.peer_id, bob.addresses, "wait")
    stream.write(b"half")
    await asyncio.sleep(0.05)
    stream.close()
    stream.close()
    await asyncio.wait_for(ended.wait(), 3)
    with pytest.raises(StreamClosed):
        await stream.read(1)


async def test_drain_waits_for_a_slow_reader(make_peer: MakePeer) -> None:
    """A writer whose reader does not read is held back, and goes on when it does."""
    alice, bob = await make_peer(), await make_peer()
    may_read = asyncio.Event()
    size, got = 64 * 1024, asyncio.get_running_loop().create_future()

    async def handler(stream: Stream) -> None:
        await may_read.wait()
        for _ in range(count):
            await stream.read(size)
        got.set_result(None)

    count = 64 * 16  # 64 MB: more than all buffers on the way hold
    await bob.serve("slow", handler)
    stream = await alice.dial(bob.peer_id, bob.addresses, "slow")

    async def write_all() -> None:
        for _ in range(count):
            stream.write(bytes(size))
            await stream.drain()

    writing = asyncio.create_task(write_all())
    await asyncio.sleep(0.5)
    assert not writing.done()
    may_read.set()
    await asyncio.wait_for(writing, 20)
    await asyncio.wait_for(got, 20)


async def test_dialling_nobody_is_told_at_once(make_peer: MakePeer) -> None:
    """Unknown peers, closed doors, impostors' addresses and unknown protocols are Unreachable."""
    alice, bob = await make_peer(), await make_peer()
    await bob.serve("echo", echo)
    stranger = Identity.make().peer_id
    wrong_id = [address.replace(bob.peer_id, stranger) for address in bob.addresses]
    started = time.monotonic()
    for peer_id, addresses, protocol, why in (
        (stranger, [], "echo", None),
        (stranger, [f"/ip4/127.0.0.1/tcp/1/p2p/{stranger}"], "echo", "nobody answers"),
        (stranger, wrong_id, "echo", "nobody answers"),
        (bob.peer_id, bob.addresses, "nothing", "does not serve nothing"),
    ):
        with pytest.raises(Unreachable, match=why):
            await alice.dial(peer_id, addresses, protocol, timeout=3)
    assert time.monotonic() - started < 3


async def test_a_failing_handler_hurts_nobody_else(
    make_peer: MakePeer, caplog: pytest.LogCaptureFixture
) -> None:
    """What a handler raises closes its stream, is logged, and the peer serves on."""
    alice, bob = await make_peer(), await make_peer()

    async def handler(stream: Stream) -> None:
        raise ValueError("a bug")

    await bob.serve("bug", handler)
    await bob.serve("echo", echo)
    stream = await alice.dial(bob.peer_id, bob.addresses, "bug")
    with pytest.raises(StreamClosed):
        await asyncio.wait_for(stream.read(1), 3)
    assert "a bug" in caplog.text
    again = await alice.dial(bob.peer_id, bob.addresses, "echo")
    again.write(*frame(b"hello"))
    assert await again.read(9) == b"\0\0\0\5hello"


async def test_leaving_ends_the_streams_of_others(make_peer: MakePeer) -> None:
    """A peer that closes ends its streams; it cannot be dialled any more, and cannot dial."""
    alice, bob = await make_peer(), await make_peer()
    await bob.serve("echo", echo)
    stream = await alice.dial(bob.peer_id, bob.addresses, "echo")
    await bob.close()
    with pytest.raises(StreamClosed):
        await asyncio.wait_for(stream.read(1), 3)
    with pytest.raises(Unreachable):
        await alice.dial(bob.peer_id, bob.addresses, "echo", timeout=2)
    with pytest.raises(Unreachable):
        await bob.dial(alice.peer_id, alice.addresses, "echo", timeout=2)


async def test_a_dropped_peer_can_be_dialled_again(make_peer: MakePeer) -> None:
    """All streams to it end, on both sides; dropping one that is not connected does nothing."""
    alice, bob = await make_peer(), await make_peer()
    ended = asyncio.Event()

    async def handler(stream: Stream) -> None:
        try:
            await echo(stream)
        finally:
            ended.set()

    await bob.serve("echo", handler)
    await alice.drop(bob.peer_id)
    stream = await alice.dial(bob.peer_id, bob.addresses, "echo")
    stream.write(*frame(b"!"))
    await stream.read(5)
    await alice.drop(bob.peer_id)
    with pytest.raises(StreamClosed):
        await stream.read(1)
    async with asyncio.timeout(10):
        await ended.wait()
    again = await alice.dial(bob.peer_id, bob.addresses, "echo")
    again.write(*frame(b"still there"))
    await again.read(4)
    assert await again.read(11) == b"still there"


async def test_records_are_announced_read_and_withdrawn(make_peer: MakePeer) -> None:
    """Each peer reads what the others announce, also what came after its first read, proofs
    included; a withdrawn record says leaving, and announcing again takes that back."""
    alice, bob, carol = await make_peer(), await make_peer(), await make_peer()
    stored = await alice.directory.announce(record(alice, Span(0, 9)))
    assert stored.expires_at == pytest.approx(time.time() + 90, abs=2)
    assert await carol.directory.read(MODEL) == (stored,)
    second = await bob.directory.announce(record(bob, Span(8, 26)))
    assert set(await carol.directory.read(MODEL)) == {stored, second}
    assert set(await carol.directory.read(MODEL, Span(16, 20))) == {second}
    assert await carol.directory.models() == (MODEL,)
    assert carol.directory.sealed(second) == bob.directory.sealed(second)

    left = await alice.directory.withdraw(stored)
    assert left.expires_at > stored.expires_at
    states = {one.peer_id: one.state for one in await carol.directory.read(MODEL)}
    assert states == {alice.peer_id: DonorState.LEAVING, bob.peer_id: DonorState.ONLINE}
    await alice.directory.announce(record(alice, Span(0, 9)))
    states = {one.peer_id: one.state for one in await carol.directory.read(MODEL)}
    assert states[alice.peer_id] == DonorState.ONLINE


async def test_a_donor_that_moved_is_found_only_where_it_is(make_peer: MakePeer) -> None:
    """After announcing another span, readers of the band it left do not get the old record."""
    alice, bob = await make_peer(), await make_peer()
    await alice.directory.announce(record(alice, Span(0, 4)))
    moved = await alice.directory.announce(record(alice, Span(20, 26)))
    assert await bob.directory.read(MODEL, Span(0, 4)) == ()
    assert await bob.directory.read(MODEL) == (moved,)
