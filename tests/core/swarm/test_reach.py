"""Whether this PC can be dialled, asked of others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.errors import SwarmError
from core.swarm.fake import FakeSwarm
from core.swarm.p2p import start_peer
from core.swarm.peer import Stream, StreamClosed
from core.swarm.reach import REACH, Access, Seen, access, answers, ask

HERE, NEAR, FAR = "127.0.0.1", "192.168.1.7", "11.77.0.2"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], Access.UNKNOWN),
        ([Seen(HERE, ())], Access.UNKNOWN),
        ([Seen(NEAR, (4001,))], Access.HOME),
        ([Seen(NEAR, (4001,)), Seen(FAR, ())], Access.CLOSED),
        ([Seen(FAR, ()), Seen(FAR, (4001,))], Access.PUBLIC),
    ],
)
def test_what_follows_from_what_others_found(found: list[Seen], said: Access) -> None:
    """Who looks from the same home network says nothing of the internet; one who can is enough."""
    assert access(found) is said


async def test_a_peer_dials_back_and_finds_what_listens(short_folder: Path) -> None:
    """Over libp2p: an open port is found, a closed one and one of another program are not; and who asks too
    often is not answered."""
    alice = await start_peer(identity=short_folder / "a", runtime=short_folder / "run")
    bob = await start_peer(
        identity=short_folder / "b", runtime=short_folder / "run", initial_peers=alice.addresses
    )
    other = await asyncio.start_server(lambda _, writer: writer.close(), HERE, 0)
    port = int(bob.addresses[0].split("/")[4])
    ports = [port, other.sockets[0].getsockname()[1]]
    stream = await bob.dial(alice.peer_id, alice.addresses, REACH)
    assert await ask(stream, ports) == Seen(HERE, (port,))
    answered = 0
    for _ in range(12):
        answered += await ask(await bob.dial(alice.peer_id, alice.addresses, REACH), ports[:1]) is not None
    assert 0 < answered < 12
    stream = await bob.dial(alice.peer_id, alice.addresses, REACH)
    with pytest.raises(StreamClosed):
        await ask(stream, [22])  # not a port that it may be made to knock at
    other.close()
    assert not await answers(HERE, ports[1])
    await bob.close()
    await alice.close()


@pytest.mark.parametrize(
    "said",
    [
        b"\0\0",
        b"\xff\xff",
        b"\0\1\xc1",
        b"\0\1\x07",
        b"\0\3\x93\1\2",
        b"\0\3\x92\xa1x",
        b"\0\x04\x92\xa1x\x90",
    ],
)
async def test_nonsense_in_answer_is_an_error_in_words(said: bytes) -> None:
    """Whatever a meeting point says."""
    swarm = FakeSwarm()
    alice, bob = swarm.peer(), swarm.peer()

    async def nonsense(stream: Stream) -> None:
        stream.write(said)
        await stream.drain()

    await bob.serve(REACH, nonsense)
    stream = await alice.dial(bob.peer_id, bob.addresses, REACH)
    with pytest.raises(SwarmError):
        await ask(stream, [4001])
    await alice.close()
    await bob.close()
