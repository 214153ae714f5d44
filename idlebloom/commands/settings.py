"""``idlebloom settings``: list, read and change the settings."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from core.door import find
from core.errors import SettingError
from core.paths import Paths
from core.preferences import Preferences
from core.settings import DECLARED, Settings, changed, declared, parse, to_json
from idlebloom.following import follow
from idlebloom.launch import BadArguments

NAME = "settings"
HELP = "list the settings, or get or set one"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("get", "set"), help="without: list all")
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(DECLARED))
    parser.add_argument("value", nargs="?", metavar="VALUE")


def run(args: argparse.Namespace, paths: Paths) -> int:
    if args.action == "set":
        if args.name is None or args.value is None:
            raise BadArguments("what to set is missing", "Say: idlebloom settings set NAME VALUE")
        try:
            name, value = parse(args.name, args.value)
        except SettingError as error:
            raise BadArguments(error.message, error.advice) from None
        return _show(_change(paths, name, value), name, args.json)
    if args.action == "get":
        if args.name is None or args.value is not None:
            raise BadArguments("one setting to get is needed", "Say: idlebloom settings get NAME")
        try:
            name = declared(args.name).name
        except SettingError as error:
            raise BadArguments(error.message, error.advice) from None
        return _show(_load(paths).settings, name, args.json)
    return _list(_load(paths).settings, args.json)


def _load(paths: Paths) -> Preferences:
    preferences = follow(Preferences(paths.settings_file))
    if preferences.notice:
        print(f"idlebloom: {preferences.notice}", file=sys.stderr)
    return preferences


def _change(paths: Paths, name: str, value: Any) -> Settings:
    """Through the running node, so that it takes effect at once; into the file where none runs."""
    node = find(paths.door_file)
    if node is None:
        return _load(paths).change({name: value}).change.after
    return changed(Settings(), node.request("/api/settings", {name: value}, method="PUT"))


def _show(settings: Settings, name: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({name: to_json(settings)[name]}, ensure_ascii=False))
    else:
        print(DECLARED[name].kind.text(getattr(settings, name)))
    return 0


def _list(settings: Settings, as_json: bool) -> int:
    if as_json:
        print(json.dumps(to_json(settings), ensure_ascii=False))
        return 0
    width = max(len(name) for name in DECLARED)
    for name, setting in DECLARED.items():
        value = setting.kind.text(getattr(settings, name)) or "(empty)"
        print(f"{name:{width}}  {value}")
    return 0
