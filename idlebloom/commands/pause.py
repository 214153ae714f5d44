"""``idlebloom pause``: the running node gives nothing for a while."""

from __future__ import annotations

import argparse

from core.paths import Paths
from idlebloom.ordering import duration, order

NAME = "pause"
HELP = "give nothing for a while"


def arguments(parser: argparse.ArgumentParser) -> None:
    duration(parser, "until you resume, if not said")
    parser.add_argument("--finish", action="store_true", help="let readers finish first: up to 10 minutes")


def run(args: argparse.Namespace, paths: Paths) -> int:
    return order(args, paths, "finish" if args.finish else "pause")
