"""A meeting point in a process of its own, so that it may run on another host of an emulated internet."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from core.swarm.daemon import Relaying
from core.swarm.p2p import start_peer
from core.swarm.secret import Secret


async def main(folder: Path, address: str, seconds: int, data: int, secret: str) -> None:
    peer = await start_peer(
        identity=folder / "meeting.key",
        runtime=folder / "run",
        host=address,
        reach="public",
        relaying=Relaying(seconds, data, 128),
        secret=Secret.from_text(secret),
    )
    print(json.dumps(peer.addresses), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await peer.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
