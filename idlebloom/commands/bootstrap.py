"""``idlebloom bootstrap``: a meeting point. It holds the DHT for its members and serves no model."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

from core.paths import Paths, make_folder
from idlebloom import numbers

NAME = "bootstrap"
HELP = "a meeting point: DHT and relay for members, no model"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        type=numbers.address,
        default="0.0.0.0",
        metavar="IP",
        help="where to listen (every address)",
    )
    parser.add_argument(
        "--port", type=numbers.port, metavar="N", help="TCP port (that of the last time, or any free one)"
    )


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.swarm.loop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_meet(args, paths.make()))
    return 0


async def _meet(args: argparse.Namespace, paths: Paths) -> None:
    from core.handed import secrets_of
    from core.swarm.daemon import FOR_MEMBERS, sweep
    from core.swarm.p2p import start_peer
    from core.swarm.whereabouts import keep
    from idlebloom import berth
    from idlebloom.house import told_to_end
    from idlebloom.membership import stored_secret

    end, place = told_to_end(), paths.state / berth.MEETING_POINT
    sweep(paths.runtime)
    secret = await asyncio.to_thread(stored_secret, secrets_of(paths))
    peer = await start_peer(
        identity=make_folder(paths.state) / "bootstrap.key",
        runtime=paths.runtime,
        host=[berth.place(args.host, place) if args.port is None else f"/ip4/{args.host}/tcp/{args.port}"],
        reach="public",
        relaying=FOR_MEMBERS,
        secret=secret,
    )
    berth.remember(peer.addresses, place)
    forget = keep(peer, paths.runtime, private=secret is not None)
    try:
        if args.json:
            print(json.dumps({"addresses": list(peer.addresses), "pid": os.getpid()}), flush=True)
        else:
            print("\n".join(peer.addresses), flush=True)
            how = "the link of: idlebloom invite" if secret else "idlebloom settings set swarm ADDRESS"
            print(f"Others join with {how}. Ctrl-C ends it.", file=sys.stderr)
        await end.wait()
    finally:
        forget()
        await peer.close()
