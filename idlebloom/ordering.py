"""What ``pause``, ``resume`` and ``give`` share: an order to the running node, and its status after."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from core.door import find_running
from core.errors import SettingError
from core.node.orders import until_of
from core.paths import Paths
from idlebloom.commands import status


class _Duration(argparse.Action):
    """A time in one word or several; what is none is a bad argument, whether or not a node runs."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        said = " ".join(values or ())
        try:
            until_of(said, time.time())
        except SettingError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        setattr(namespace, self.dest, said)


def duration(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument(
        "duration",
        nargs="*",
        action=_Duration,
        metavar="TIME",
        help=f"how long: 15m, 1h, 2d, or “until tomorrow”; {otherwise}",
    )


def order(args: argparse.Namespace, paths: Paths, action: str) -> int:
    """Raises ``NodeError`` in the node's own words where it refuses."""
    node = find_running(paths.door_file)
    found = node.request("/api/donate", {"action": action, "for": getattr(args, "duration", None) or None})
    print(json.dumps(found, ensure_ascii=False) if args.json else status.lines(found, node.url)[0])
    return 0
