"""``idlebloom resume``: ends a pause, or giving now."""

from __future__ import annotations

import argparse

from core.paths import Paths
from idlebloom.ordering import order

NAME = "resume"
HELP = "end a pause, or giving now: this PC gives as its settings say"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(args: argparse.Namespace, paths: Paths) -> int:
    return order(args, paths, "resume")
