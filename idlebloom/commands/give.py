"""``idlebloom give``: gives now, also while somebody uses this PC."""

from __future__ import annotations

import argparse

from core.paths import Paths
from idlebloom.ordering import duration, order

NAME = "give"
HELP = "give now, also while somebody uses this PC"


def arguments(parser: argparse.ArgumentParser) -> None:
    duration(parser, "until you resume or pause, if not said")


def run(args: argparse.Namespace, paths: Paths) -> int:
    return order(args, paths, "give")
