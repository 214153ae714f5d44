"""Two kinds of swarm behind one fixture, so that one suite holds both to the same contract."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from core.swarm.fake import FakeSwarm
from core.swarm.peer import Peer

# A busy machine is no failure.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

MakePeer = Callable[[], Awaitable[Peer]]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets; pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="ib-") as folder:
        yield Path(folder)


@pytest.fixture(params=["fake", "real"])
async def make_peer(request: pytest.FixtureRequest, short_folder: Path) -> AsyncIterator[MakePeer]:
    """Makes peers of one swarm, in memory or over loopback, and closes them at the end."""
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            swarm = FakeSwarm()

            async def make() -> Peer:
                peer = swarm.peer()
                stack.push_async_callback(peer.close)
                return peer
        else:
            make = real_peers(short_folder, stack)
        yield make


def real_peers(folder: Path, stack: AsyncExitStack) -> MakePeer:
    from core.swarm.p2p import start_peer

    made: list[Peer] = []

    async def make() -> Peer:
        known = made[0].addresses if made else ()
        peer = await start_peer(
            identity=folder / f"{len(made)}.id", runtime=folder / "run", initial_peers=known
        )
        made.append(peer)
        stack.push_async_callback(peer.close)
        return peer

    return make
