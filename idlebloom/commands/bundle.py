"""``idlebloom bundle``: one file for whoever helps with a trouble, without secrets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from core.door import find
from core.errors import DiskError, IdlebloomError
from core.paths import Paths, words

NAME = "bundle"
HELP = "write one file for whoever helps you with a trouble; it holds no secrets"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", type=Path, default=Path("idlebloom-bundle.zip"), help="where to (%(default)s)"
    )


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.preferences import Preferences
    from core.settings import chosen
    from desktop import bundle
    from idlebloom.launch import version

    settings = chosen(Preferences(paths.settings_file).settings) if paths.settings_file.exists() else {}
    try:
        bundle.write(args.file, paths, status=_status(paths), settings=settings, version=version())
    except OSError as error:
        raise DiskError(f"cannot write {args.file}: {words(error)}", "Name another file.") from error
    if args.json:
        print(json.dumps({"file": str(args.file)}))
    else:
        print(f"{args.file}: settings, status, what happened last, and the ends of the logs.")
        print("It holds no address, peer, question, answer or key. Look into it before you send it.")
    return 0


def _status(paths: Paths) -> dict[str, Any]:
    """What the running node says; that there is none is worth knowing too."""
    node = find(paths.door_file)
    if node is None:
        return {"node": "not running"}
    said: dict[str, Any] = {}
    for name, path in (("status", "/api/status?once=1"), ("events", "/api/events"), ("given", "/api/given")):
        try:
            said[name] = node.request(path)
        except IdlebloomError as error:
            said[name] = str(error)
    return said
