"""Private swarms: who knows the secret is let in, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from core.errors import SwarmError
from core.swarm.fake import FakeSwarm
from core.swarm.p2p import HivemindPeer, start_peer
from core.swarm.peer import Stream, StreamClosed, Unreachable
from core.swarm.secret import NotAMember, Secret, demand, prove
from core.terms import Because, DonorState, ModelRef, Reason, Record, Span

ECHO = "/test/echo"
MODEL = ModelRef("bloom", "main", 26)


async def meeting(dialling: Secret, accepting: Secret) -> tuple[object, object]:
    """What both sides of a stream end with: nothing for a member, else the error."""
    swarm = FakeSwarm()
    alice, bob = swarm.peer(), swarm.peer()
    ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def accept(stream: Stream) -> None:
        try:
            await demand(stream, accepting, bob.peer_id, ECHO)
        except SwarmError as error:
            ended.set_result(error)
        else:
            ended.set_result(None)

    await bob.serve(ECHO, accept)
    stream = await alice.dial(bob.peer_id, bob.addresses, ECHO)
    here: object = None
    try:
        await prove(stream, dialling, alice.peer_id, ECHO)
    except SwarmError as error:
        here = error
        stream.close()
    there = await asyncio.wait_for(ended, 5)
    await alice.close()
    await bob.close()
    return here, there


async def test_members_prove_it_to_each_other() -> None:
    """Both sides learn that the other knows the secret; with different ones, both refuse."""
    secret = Secret.make()
    assert await meeting(secret, secret) == (None, None)
    here, there = await meeting(secret, Secret.make())
    assert isinstance(here, NotAMember) and isinstance(there, NotAMember | StreamClosed)


async def test_a_proof_is_of_no_use_to_anybody_else() -> None:
    """What one peer has proved to another, a third cannot play again, nor pass on to a fourth."""
    secret, swarm = Secret.make(), FakeSwarm()
    alice, bob, mallory = swarm.peer(), swarm.peer(), swarm.peer()
    refused = []

    async def accept(stream: Stream) -> None:
        try:
            await demand(stream, secret, bob.peer_id, ECHO)
        except SwarmError as error:
            refused.append(error)
        stream.close()

    async def relay(stream: Stream) -> None:
        """Mallory, whom Alice dials, shows Bob all that Alice says, and Alice all that Bob says."""
        onward = await mallory.dial(bob.peer_id, bob.addresses, ECHO)
        onward.write(await stream.read(32))
        stream.write(await onward.read(64))
        onward.write(await stream.read(32))

    await bob.serve(ECHO, accept)
    await mallory.serve(ECHO, relay)
    stream = await alice.dial(mallory.peer_id, mallory.addresses, ECHO)
    with pytest.raises(NotAMember):
        await prove(stream, secret, alice.peer_id, ECHO)
    stream.close()
    played = await mallory.dial(bob.peer_id, bob.addresses, ECHO)
    played.write(bytes(32))
    await played.read(64)
    played.write(secret.proof(b"dialled", ECHO.encode(), alice.peer_id.encode(), bob.peer_id.encode()))
    with pytest.raises(StreamClosed):
        await played.read(1)
    assert refused
    for peer in (alice, bob, mallory):
        await peer.close()


@pytest.mark.parametrize(
    "text",
    ["", "short", Secret.make().text[:-1], Secret.make().text + "A", "ü" * 43],
    ids=["none", "short", "cut", "too long", "foreign letters"],
)
def test_a_damaged_secret_is_refused(text: str) -> None:
    """Only all 43 letters are a secret."""
    with pytest.raises(ValueError, match="not a secret"):
        Secret.from_text(text)


def test_a_secret_is_its_letters() -> None:
    """There and back, and never in a log by accident."""
    secret = Secret.make()
    assert Secret.from_text(secret.text) == secret
    assert secret.text not in repr(secret)


@pytest.fixture
async def private(short_folder: Path) -> AsyncIterator[list[HivemindPeer]]:
    """Two members of a private swarm, and one peer each without the secret and with another."""
    secret = Secret.make()
    async with AsyncExitStack() as stack:
        made: list[HivemindPeer] = []
        for number, theirs in enumerate((secret, secret, None, Secret.make())):
            peer = await start_peer(
                identity=short_folder / f"{number}.id",
                runtime=short_folder / "run",
                initial_peers=made[0].addresses if made else (),
                secret=theirs,
                client_only=number > 0,
                patient=True,
            )
            stack.push_async_callback(peer.close)
            made.append(peer)
        yield made


async def test_strangers_are_refused_on_streams_and_in_the_directory(private: list[HivemindPeer]) -> None:
    """Over real libp2p: members talk and see each other's records; a peer without the secret, or with
    another, gets nothing said, nothing read and nothing stored."""
    first, second, *strangers = private
    reached = []

    async def echo(stream: Stream) -> None:
        reached.append(stream.remote)
        stream.write(await stream.read(4))
        await stream.drain()

    await first.serve(ECHO, echo)
    stream = await second.dial(first.peer_id, first.addresses, ECHO)
    stream.write(b"ping")
    assert await asyncio.wait_for(stream.read(4), 5) == b"ping"
    stored = await second.directory.announce(record(second))
    assert await first.directory.read(MODEL) == (stored,)
    for stranger in strangers:
        with pytest.raises((Unreachable, StreamClosed)):
            await asked(stranger, first)
        assert stranger.trouble == Because(Reason.NOT_ADMITTED)
        assert await stranger.directory.read(MODEL) == ()
        with pytest.raises(SwarmError):
            await stranger.directory.announce(record(stranger))
        found = await stranger.directory._node.protocol.call_find(
            stranger._life.hivemind_id(first.peer_id),  # type: ignore[union-attr]
            [type(first.directory._node.node_id).generate(b"x")],
        )
        assert found is None
    assert reached == [second.peer_id]
    assert await first.directory.read(MODEL) == (stored,)


async def asked(stranger: HivemindPeer, member: HivemindPeer) -> None:
    """All that a member says to a stranger ends before it answers anything."""
    opened = await stranger.dial(member.peer_id, member.addresses, ECHO)
    opened.write(b"ping" * 16)
    await asyncio.wait_for(opened.read(100), 5)


def record(peer: HivemindPeer) -> Record:
    return Record(peer.peer_id, MODEL, Span(0, 8), DonorState.ONLINE, 1.0, 0.0)
