"""``idlebloom bundle``: one file for whoever helps with a trouble, without secrets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from core.paths import Paths

NAME = "bundle"
HELP = "write one file for whoever helps you with a trouble; it holds no secrets"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", type=Path, default=Path("idlebloom-bundle.zip"), help="where to (%(default)s)"
    )


def run(args: argparse.Namespace, paths: Paths) -> int:
    from idlebloom.bundle import write

    names = write(args.file, paths)
    if args.json:
        print(json.dumps({"file": str(args.file), "holds": names}))
    else:
        print(f"{args.file}: {', '.join(names)}")
        print("It holds no address, peer, question, answer or key. Look into it before you send it.")
    return 0
