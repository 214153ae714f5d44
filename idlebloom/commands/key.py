"""``idlebloom key``: the key with which programs use the APIs of this PC's node."""

from __future__ import annotations

import argparse
import json
import sys

from core.handed import secrets_of
from core.paths import Paths

NAME = "key"
HELP = "the key for programs that use the APIs"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--new", action="store_true", help="make another; the one before opens nothing more")


def run(args: argparse.Namespace, paths: Paths) -> int:
    secrets = secrets_of(paths.make())
    key = secrets.new_api_key() if args.new else secrets.api_key()
    if secrets.notice:
        print(f"idlebloom: {secrets.notice}", file=sys.stderr)
    print(json.dumps({"key": key}) if args.json else key)
    return 0
