"""``idlebloom node``: the background node without the tray, a headless donor where ``donate`` says so."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core import handover
from core.kinds import Addresses
from core.paths import Paths
from core.secrets import Secrets
from core.settings import Settings
from core.terms import PeerId
from idlebloom import notify, numbers

if TYPE_CHECKING:
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
        help="first read a line of JSON there: the door's token, settings",
    )


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.node.lock import only_node
    from core.preferences import Preferences
    from core.swarm.loop import new_event_loop
    from idlebloom.following import follow

    handed = handover.read() if args.handover else handover.Handed()
    with only_node(paths.make()):
        preferences = follow(Preferences(paths.settings_file))
        preferences.change(handed.settings)
        if preferences.notice:
            print(f"idlebloom: {preferences.notice}", file=sys.stderr)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(args, paths, preferences, handed.token))
    return 0


async def _run(args: argparse.Namespace, paths: Paths, preferences: Preferences, token: str) -> None:
    from core.node.giver import Giver, Standing
    from core.node.ledger import Ledger
    from core.node.licences import Licences
    from core.node.loop import Loop
    from core.node.node import Node
    from core.node.orders import Told
    from core.node.storage import Storage
    from core.swarm.daemon import sweep
    from idlebloom.house import door, end_with_input, told_to_end
    from idlebloom.launch import version
    from idlebloom.membership import stored_secret
    from idlebloom.visiting import model_of
    from idlebloom.ways import NodeWays

    settings = preferences.settings
    end = told_to_end()
    storage = Storage.of(settings, paths)
    await asyncio.to_thread(storage.settle)
    model = await model_of(settings.model, settings, paths, quiet=args.json)
    if args.owned:
        end_with_input(end)
    sweep(paths.runtime)
    peers = settings.swarm if args.peers is None else args.peers
    secrets = Secrets(paths.secrets_file)
    secret = await asyncio.to_thread(stored_secret, secrets)
    host = _host(peers, secret)
    peer, forget = await _peer(paths, settings, peers, host, secret)
    node = Node(peer, model, version())
    node.licences = Licences(paths.licences_file)
    loop: Loop | None = None
    ways = NodeWays(paths, preferences)
    try:
        told, ledger = Told(paths.state_file), Ledger(paths.ledger_file)
        _say(secrets.notice if secrets.fails else "", told.notice, ledger.notice)
        giver = Giver(
            node, paths, Standing(host, tuple(peers), secret, settings.open_router_ports), version()
        )
        loop = Loop(node, giver, settings, told, ledger)
        await loop.start()
        preferences.listen(loop)
        port = settings.port if args.port is None else args.port
        async with door(
            node,
            port,
            paths.door_file,
            preferences,
            history_file=paths.history_file,
            secrets=secrets,
            donor=loop,
            ways=ways,
            own_donors=partial(_own_donors, paths.state / "worker.key"),
            token=token,
        ) as running:
            print(
                json.dumps({"url": running.url, "pid": os.getpid()}) if args.json else running.url, flush=True
            )
            notify.ready(running.url)
            await end.wait()
    finally:
        forget()
        await asyncio.to_thread(ways.close)
        if loop is not None:
            await loop.close()
        await node.close()
        await peer.close()


def _say(*notices: str) -> None:
    """To whoever reads standard error, the tray included."""
    for notice in filter(None, notices):
        print(f"idlebloom: {notice}", file=sys.stderr, flush=True)


def _own_donors(identity: Path) -> frozenset[PeerId]:
    """Who this PC gives as, if it ever did."""
    from core.swarm.identity import load_identity

    return frozenset({load_identity(identity).peer_id}) if identity.exists() else frozenset()


async def _peer(
    paths: Paths, settings: Settings, peers: Sequence[str], host: str, secret: SwarmSecret | None
) -> tuple[HivemindPeer, Callable[[], None]]:
    """In the swarm; call the second to forget where it can be found."""
    from core.swarm.daemon import FOR_STRANGERS
    from core.swarm.p2p import start_peer
    from core.swarm.whereabouts import keep
    from idlebloom import berth

    peer = await start_peer(
        identity=paths.state / "node.key",
        runtime=paths.runtime,
        initial_peers=peers,
        host=(berth.place(host, paths.state),),
        relaying=FOR_STRANGERS if settings.relay_for_strangers else None,
        open_router_ports=settings.open_router_ports,
        secret=secret,
        patient=True,
    )
    berth.remember(peer.addresses, paths.state)
    return peer, keep(peer, paths.runtime, private=secret is not None)


def _host(peers: Sequence[str], secret: SwarmSecret | None) -> str:
    """Other PCs can reach a node that is in their swarm, or whose owner has invited them. One that serves
    this PC alone stays on it."""
    return "0.0.0.0" if peers or secret is not None else "127.0.0.1"


def _peers(text: str) -> tuple[str, ...]:
    try:
        return Addresses().parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"peers must be {error}") from None
