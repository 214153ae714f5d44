"""What only the real network has: a process of its own, sockets, meeting points."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from core.errors import SwarmError
from core.swarm import p2p
from core.swarm.addresses import BadAddress
from core.swarm.daemon import FOR_STRANGERS, Flags, is_gone, socket_folder, sweep
from core.swarm.identity import Identity, load_identity
from core.swarm.loop import new_event_loop
from core.swarm.p2p import HivemindPeer, start_peer
from core.swarm.peer import Stream, StreamClosed
from core.swarm.reach import REACH
from core.terms import Because, Reason

ROOT = Path(__file__).resolve().parents[3]

CHILD = """
import asyncio, os, sys
from pathlib import Path
from core.swarm.p2p import start_peer

async def main(folder):
    peer = await start_peer(identity=folder / "id", runtime=folder / "run")
    print(peer._life.daemon.process.pid, flush=True)
    if sys.argv[2] == "stay":
        await peer.died()
    await peer.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def run_child(folder: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", CHILD, str(folder), what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def until_gone(pid: int, seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while runs(pid):
        assert time.monotonic() < end, "it is still there"
        time.sleep(0.02)


async def until(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.02)


def pid_of(peer: HivemindPeer) -> int:
    assert peer._life is not None
    return peer._life.daemon.process.pid


async def test_p2pd_dies_with_its_parent(short_folder: Path) -> None:
    """After kill -9 of the process, its p2pd is gone within moments; a sweep removes its sockets."""
    child = run_child(short_folder, "stay")
    assert child.stdout is not None
    assert child.stderr is not None
    pid = int(await asyncio.to_thread(child.stdout.readline))
    assert runs(pid)
    child.kill()
    await asyncio.to_thread(child.wait)
    child.stdout.close()
    child.stderr.close()
    await asyncio.to_thread(until_gone, pid)
    assert list((short_folder / "run").iterdir())
    sweep(short_folder / "run")
    assert not list((short_folder / "run").iterdir())


async def test_nothing_is_printed_or_left(short_folder: Path) -> None:
    """A process that starts and leaves, with every warning an error, prints nothing and leaves no
    socket behind."""
    child = run_child(short_folder, "leave")
    output, errors = await asyncio.to_thread(child.communicate, timeout=30)
    assert (child.returncode, errors) == (0, "")
    assert not runs(int(output))
    assert not list((short_folder / "run").iterdir())


async def test_a_dead_p2pd_is_started_again(short_folder: Path) -> None:
    """When p2pd is killed, streams end, this is said, and soon the peer is back at its addresses, in the
    swarm, serving what it served; closing still works."""
    alice = await start_peer(identity=short_folder / "a", runtime=short_folder / "run")
    bob = await start_peer(
        identity=short_folder / "b", runtime=short_folder / "run", initial_peers=alice.addresses
    )
    told: list[Because | None] = []
    bob.watchers.append(lambda: told.append(bob.trouble))

    async def echo(stream: Stream) -> None:
        stream.write(await stream.read(1))
        await stream.drain()

    await bob.serve("echo", echo)
    before = bob.addresses
    stream = await bob.dial(alice.peer_id, alice.addresses, REACH)
    os.kill(pid_of(bob), signal.SIGKILL)
    with pytest.raises(StreamClosed):
        await asyncio.wait_for(stream.read(1), 3)
    await until(lambda: any(one is not None for one in told) and bob.trouble is None)
    assert Reason.NETWORK_RESTARTS in {one.kind for one in told if one is not None}
    assert set(bob.addresses) == set(before)
    again = await alice.dial(bob.peer_id, bob.addresses, "echo")
    again.write(b"!")
    assert await asyncio.wait_for(again.read(1), 3) == b"!"
    assert alice.peer_id in await bob._life.control.connected()  # type: ignore[union-attr]
    await asyncio.wait_for(bob.close(), 5)
    await alice.close()
    assert not list((short_folder / "run").iterdir())


async def test_a_hung_p2pd_is_started_again(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lives but answers nothing is ended and replaced."""
    monkeypatch.setattr(p2p, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(p2p, "HUNG_SECONDS", 0.3)
    alice = await start_peer(identity=short_folder / "a", runtime=short_folder / "run")
    hung = pid_of(alice)
    os.kill(hung, signal.SIGSTOP)
    await until(lambda: alice._life is not None and pid_of(alice) != hung)
    assert not runs(hung)
    await alice.close()


async def test_lost_meeting_points_are_said_and_met_again(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patient peer begins without its meeting point, says so, joins when it comes, and once more after it
    went and came back."""
    monkeypatch.setattr(p2p, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(p2p, "MEET_AGAIN_SECONDS", (0.1,))
    run = short_folder / "run"
    known = await start_peer(identity=short_folder / "a", runtime=run)
    where = known.addresses
    await known.close()
    bob = await start_peer(identity=short_folder / "b", runtime=run, initial_peers=where, patient=True)
    for _ in range(2):
        await until(lambda: bob.trouble == Because(Reason.NO_MEETING_POINT))
        host = [address.rpartition("/p2p/")[0] for address in where]
        alice = await start_peer(identity=short_folder / "a", runtime=run, host=host)
        await until(lambda: bob.trouble is None)
        assert await bob.directory.models() == ()
        await alice.close()
    await bob.close()


async def test_a_peer_keeps_its_id(short_folder: Path) -> None:
    """The peer id is that of the identity file, and the addresses end in it."""
    identity = load_identity(short_folder / "id")
    peer = await start_peer(identity=short_folder / "id", runtime=short_folder / "run")
    await peer.close()
    assert peer.peer_id == identity.peer_id
    assert peer.addresses
    assert all(address.endswith(f"/p2p/{peer.peer_id}") for address in peer.addresses)


async def test_meeting_points_that_do_not_answer_are_an_error_in_words(short_folder: Path) -> None:
    """Nobody there, or a mistyped address: one sentence, soon, and no process or socket left."""
    nobody = f"/ip4/127.0.0.1/tcp/1/p2p/{Identity.make().peer_id}"
    started = time.monotonic()
    with pytest.raises(SwarmError, match="none of the swarm's meeting points answers"):
        await start_peer(identity=short_folder / "id", runtime=short_folder / "run", initial_peers=[nobody])
    with pytest.raises(BadAddress, match="looks like"):
        await start_peer(
            identity=short_folder / "id", runtime=short_folder / "run", initial_peers=["localhost:4001"]
        )
    assert time.monotonic() - started < 5
    assert not list((short_folder / "run").iterdir())


async def test_one_dead_meeting_point_among_two_does_no_harm(short_folder: Path) -> None:
    """Joining needs one meeting point that answers."""
    nobody = f"/ip4/127.0.0.1/tcp/1/p2p/{Identity.make().peer_id}"
    alice = await start_peer(identity=short_folder / "a", runtime=short_folder / "run")
    bob = await start_peer(
        identity=short_folder / "b",
        runtime=short_folder / "run",
        initial_peers=[nobody, *alice.addresses],
    )
    await bob.close()
    await alice.close()


async def test_a_p2pd_that_cannot_start_is_an_error_in_words(short_folder: Path) -> None:
    """An address that cannot be listened at is named by p2pd itself."""
    with pytest.raises(SwarmError, match="p2pd ended at its start"):
        await start_peer(
            identity=short_folder / "id", runtime=short_folder / "run", host=["/ip4/203.0.113.1/tcp/1"]
        )
    assert not list((short_folder / "run").iterdir())


def test_a_peer_lives_in_any_thread(short_folder: Path) -> None:
    """The loop may run in another thread than the main one, on uvloop too."""

    async def live() -> None:
        peer = await start_peer(identity=short_folder / "id", runtime=short_folder / "run")
        await peer.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(live())

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result(20)


async def test_a_wrong_clock_is_said(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swarm whose clock is a minute ahead of ours is joined only after setting the clock."""
    alice = await start_peer(identity=short_folder / "a", runtime=short_folder / "run")
    protocol = sys.modules["hivemind.dht.protocol"]

    def clock() -> float:
        answering = sys._getframe(1).f_code.co_name == "rpc_ping"
        return time.time() + 60 * answering

    monkeypatch.setattr(protocol, "get_dht_time", clock)
    with pytest.raises(SwarmError, match="clock differs by more than 3 s"):
        await start_peer(
            identity=short_folder / "b", runtime=short_folder / "run", initial_peers=alice.addresses
        )
    await alice.close()


async def test_what_strangers_make_hivemind_raise_is_not_logged(
    short_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A malformed message from another peer leaves no error behind; our own tasks' errors are told."""
    alice = await start_peer(identity=short_folder / "a", runtime=short_folder / "run")
    protocol = alice.directory._node.protocol
    uneven = sys.modules["hivemind.proto.dht_pb2"].StoreRequest(keys=[b"1"])  # a key without a value
    unattended = asyncio.create_task(protocol.rpc_store(uneven, None))
    await asyncio.wait({unattended})
    del unattended
    gc.collect()
    assert caplog.text == ""

    async def ours() -> None:
        raise ValueError("a bug of ours")

    unattended = asyncio.create_task(ours())
    await asyncio.wait({unattended})
    del unattended
    gc.collect()
    assert "a bug of ours" in caplog.text
    await alice.close()


def test_strangers_are_not_relayed_and_ports_stay_shut(tmp_path: Path) -> None:
    """Unless the owner says so, p2pd is told to open no router port and to relay for nobody."""
    words = Flags(tmp_path, ["/ip4/127.0.0.1/tcp/0"], client_only=False).words(tmp_path)
    assert {"-natPortMap=0", "-relayMaxReservations=0", "-relayMaxCircuits=0", "-autoRelay=0"} <= set(words)
    generous = Flags(tmp_path, [], client_only=True, relaying=FOR_STRANGERS, open_router_ports=True)
    assert {"-natPortMap=1", "-relayService=1", "-dhtClient=1", "-relayTimeLimit=1800s"} <= set(
        generous.words(tmp_path)
    )
    assert "-relayMaxReservations=0" not in generous.words(tmp_path)


def test_who_cannot_be_dialled_asks_its_meeting_points_to_relay(tmp_path: Path) -> None:
    """p2pd is told whom to ask, and that it cannot be reached: else it asks nobody."""
    relayed = Flags(tmp_path, [], client_only=True, reach="private", relays=["/ip4/11.77.0.1/tcp/1/p2p/x"])
    assert {
        "-autoRelay=1",
        "-trustedRelays=/ip4/11.77.0.1/tcp/1/p2p/x",
        "-forceReachabilityPrivate=1",
    } <= set(relayed.words(tmp_path))


def test_sockets_go_where_their_paths_fit(short_folder: Path) -> None:
    """A long folder is left for a private one in /tmp; a folder that cannot be made is said."""
    near = socket_folder(short_folder)
    assert near.parent == short_folder
    assert near.stat().st_mode & 0o777 == 0o700
    far = socket_folder(short_folder / ("x" * 90))
    assert far.parent == Path("/tmp")
    assert far.stat().st_mode & 0o777 == 0o700
    far.rmdir()
    (short_folder / "file").write_text("")
    with pytest.raises(SwarmError, match="no folder for sockets"):
        socket_folder(short_folder / "file")


def test_whoever_nobody_has_buried_is_gone() -> None:
    """Its pid is still taken: its parent has not asked after it."""
    living = subprocess.Popen(["sleep", "60"])
    assert not is_gone(living.pid)
    living.kill()
    os.waitid(os.P_PID, living.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.pid_exists(living.pid)
    assert is_gone(living.pid)
    living.wait()
    assert is_gone(living.pid)


def test_the_sweep_spares_the_living(short_folder: Path) -> None:
    """Folders of running processes stay."""
    mine = socket_folder(short_folder)
    gone = short_folder / "p2p-999999999-abc"
    gone.mkdir()
    sweep(short_folder)
    assert mine.exists()
    assert not gone.exists()
