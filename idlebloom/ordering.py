"""What ``pause``, ``resume`` and ``give`` share: an order to the running node, and its status after."""

from __future__ import annotations

import argparse
import json

from core.door import find_running
from core.paths import Paths
from idlebloom.commands import status


def duration(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument(
        "duration",
        nargs="*",
        metavar="TIME",
        help=f"how long: 15m, 1h, 2d, or “until tomorrow”; {otherwise}",
    )


def order(args: argparse.Namespace, paths: Paths, action: str) -> int:
    """Raises ``NodeError`` in the node's own words where it refuses."""
    node = find_running(paths.door_file)
    said = " ".join(getattr(args, "duration", ())).strip()
    found = node.request("/api/donate", {"action": action, "for": said or None})
    print(json.dumps(found, ensure_ascii=False) if args.json else status.lines(found, node.url)[0])
    return 0
