"""``idlebloom node``: the background node without the tray, a headless donor where ``donate`` says so."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core import handover
from core.handed import Held, secrets_of
from core.kinds import Addresses
from core.paths import Paths
from core.secrets import Secret, Vault
from core.settings import Settings
from core.terms import PeerId
from idlebloom import notify, numbers

if TYPE_CHECKING:
    from core.node.checkpoint import Model
    from core.node.giver import Giver, Standing
    from core.node.loop import Loop
    from core.node.node import Node
    from core.preferences import Preferences
    from core.swarm.p2p import HivemindPeer
    from core.swarm.secret import Secret as SwarmSecret

NAME = "node"
HELP = "the background node without the tray"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=numbers.port, metavar="N", help="of the chat page (the setting: 7714)")
    parser.add_argument("--peers", type=_peers, metavar="ADDR,…", help="the swarm's meeting points")
    parser.add_argument("--owned", action="store_true", help="end when standard input does")
    parser.add_argument(
        "--handover",
        action="store_true",
        help="first read a line of JSON there: the door's token, settings, secrets",
    )


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.node.lock import only_node
    from core.preferences import Preferences
    from core.swarm.loop import new_event_loop
    from idlebloom.following import follow

    handed = handover.read() if args.handover else handover.Handed()
    secrets: Vault = Held(handed.secrets, _hand_back) if args.handover else secrets_of(paths)
    with only_node(paths.make()):
        preferences = follow(Preferences(paths.settings_file))
        preferences.change(handed.settings)
        if preferences.notice:
            print(f"idlebloom: {preferences.notice}", file=sys.stderr)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(args, paths, preferences, secrets, handed.token))
    return 0


def _hand_back(changes: Mapping[Secret, str | None]) -> None:
    """To whoever gave the secrets. In one piece: threads of the door do this."""
    sys.stdout.write(handover.handed_back(changes) + "\n")
    sys.stdout.flush()


async def _run(
    args: argparse.Namespace, paths: Paths, preferences: Preferences, secrets: Vault, token: str
) -> None:
    from core.node.giver import Giver
    from core.node.storage import Storage
    from core.swarm.daemon import sweep
    from idlebloom.house import Belongings, Place, door, end_with_input, told_to_end
    from idlebloom.launch import version
    from idlebloom.visiting import model_of
    from idlebloom.ways import NodeWays

    settings = preferences.settings
    end = told_to_end()
    await asyncio.to_thread(Storage.of(settings, paths).settle)
    model = await model_of(settings.model, settings, paths, quiet=args.json, secrets=secrets)
    if args.owned:
        end_with_input(end)
    sweep(paths.runtime)
    async with contextlib.AsyncExitStack() as house:
        standing = await asyncio.to_thread(_standing, args.peers, settings, secrets)
        node = await _node(house, paths, settings, standing, model)
        _say(secrets.notice if secrets.fails else "")
        giver = Giver(node, paths, standing, secrets, version())
        loop = await _loop(house, node, giver, paths, preferences)
        ways = NodeWays(paths, preferences)
        house.push_async_callback(asyncio.to_thread, ways.close)
        port = settings.port if args.port is None else args.port
        place = Place(port, paths.door_file, paths.history_file, token)
        peers = partial(_own_donors, paths.state / "worker.key")
        own = Belongings(preferences, secrets, loop, peers, ways)
        running = await house.enter_async_context(door(node, place, own))
        print(json.dumps({"url": running.url, "pid": os.getpid()}) if args.json else running.url, flush=True)
        notify.ready(running.url)
        await end.wait()


def _standing(peers: Sequence[str] | None, settings: Settings, secrets: Vault) -> Standing:
    """How it takes part in its swarm."""
    from core.node.giver import Standing
    from idlebloom.membership import stored_secret

    secret = stored_secret(secrets)
    peers = settings.swarm if peers is None else peers
    return Standing(_host(peers, secret), tuple(peers), secret, settings.open_router_ports)


async def _node(
    house: contextlib.AsyncExitStack, paths: Paths, settings: Settings, standing: Standing, model: Model
) -> Node:
    from core.node.licences import Licences
    from core.node.node import Node
    from idlebloom.launch import version

    peer, forget = await _peer(paths, settings, standing)
    house.push_async_callback(peer.close)
    node = Node(peer, model, version())
    house.push_async_callback(node.close)
    house.callback(forget)
    node.licences = Licences(paths.licences_file)
    return node


async def _loop(
    house: contextlib.AsyncExitStack, node: Node, giver: Giver, paths: Paths, preferences: Preferences
) -> Loop:
    """What has it give, as the owner's settings and this PC's facts allow."""
    from core.node.ledger import Ledger
    from core.node.loop import Loop
    from core.node.orders import Told

    told, ledger = Told(paths.state_file), Ledger(paths.ledger_file)
    _say(told.notice, ledger.notice)
    loop = Loop(node, giver, preferences.settings, told, ledger)
    house.push_async_callback(loop.close)
    await loop.start()
    preferences.listen(loop)
    return loop


def _say(*notices: str) -> None:
    """To whoever reads standard error, the tray included."""
    for notice in filter(None, notices):
        print(f"idlebloom: {notice}", file=sys.stderr, flush=True)


def _own_donors(identity: Path) -> frozenset[PeerId]:
    """Who this PC gives as, if it ever did."""
    from core.swarm.identity import load_identity

    return frozenset({load_identity(identity).peer_id}) if identity.exists() else frozenset()


async def _peer(
    paths: Paths, settings: Settings, standing: Standing
) -> tuple[HivemindPeer, Callable[[], None]]:
    """In the swarm; call the second to forget where it can be found."""
    from core.swarm.daemon import FOR_STRANGERS
    from core.swarm.p2p import start_peer
    from core.swarm.whereabouts import keep
    from idlebloom import berth

    peer = await start_peer(
        identity=paths.state / "node.key",
        runtime=paths.runtime,
        initial_peers=standing.peers,
        host=(berth.place(standing.host, paths.state / berth.NODE),),
        relaying=FOR_STRANGERS if settings.relay_for_strangers else None,
        open_router_ports=settings.open_router_ports,
        secret=standing.secret,
        patient=True,
    )
    berth.remember(peer.addresses, paths.state / berth.NODE)
    return peer, keep(peer, paths.runtime, private=standing.secret is not None)


def _host(peers: Sequence[str], secret: SwarmSecret | None) -> str:
    """Other PCs can reach a node that is in their swarm, or whose owner has invited them. One that serves
    this PC alone stays on it."""
    return "0.0.0.0" if peers or secret is not None else "127.0.0.1"


def _peers(text: str) -> tuple[str, ...]:
    try:
        return Addresses().parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"peers must be {error}") from None
