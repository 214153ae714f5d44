"""``idlebloom model``: the chosen model, its licence, the layers kept on this PC, and the hub's token."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from typing import TYPE_CHECKING

from core.errors import ModelError, UserError
from core.paths import Paths
from core.words import _, size
from idlebloom.launch import BadArguments

if TYPE_CHECKING:
    from core.node.storage import Storage

NAME = "model"
HELP = "the model, its licence, the layers kept on this PC, and the hub's token"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=("accept", "delete", "token"),
        help="accept the licence; delete kept layers; store a token of the hub, read from standard input. "
        "Without: show all",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="of a model to accept, or of kept layers to delete"
    )
    parser.add_argument("--yes", action="store_true", help="accept without being asked")


def run(args: argparse.Namespace, paths: Paths) -> int:
    match args.action:
        case "accept":
            return _accept(args, paths.make())
        case "delete":
            return _delete(args, paths)
        case "token":
            return _token(args, paths.make())
    return _show(args, paths)


def _accept(args: argparse.Namespace, paths: Paths) -> int:
    from core.node.licences import LINK, SUMMARY, Licences

    model, licence = _licence(args, paths)
    licences = Licences(paths.licences_file)
    if not licence:
        print(json.dumps({"model": model, "licence": ""}) if args.json else f"{model} asks for nothing.")
        return 0
    if not licences.accepted(licence):
        if not args.yes:
            print(f"{model}: {licence}\n{LINK}\n\n{_(SUMMARY)}\n", file=sys.stderr)
            _ask()
        licences.accept(licence)
    print(json.dumps({"model": model, "licence": licence}) if args.json else f"{licence}: accepted")
    return 0


def _ask() -> None:
    """Raises ``UserError`` unless a person says yes."""
    if not sys.stdin.isatty():
        raise UserError(
            "nobody is here to accept the licence", "Read it, then say: idlebloom model accept --yes"
        )
    print(_("Do you accept it? [y/N] "), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UserError("the licence was not accepted, so this model is not used")


def _licence(args: argparse.Namespace, paths: Paths) -> tuple[str, str]:
    """The model's id, and the licence to accept."""
    import asyncio

    from core.node.licences import of_model
    from core.preferences import Preferences
    from idlebloom.visiting import model_of

    settings = Preferences(paths.settings_file).settings
    model = asyncio.run(model_of(args.name or settings.model, settings, paths, quiet=args.json))
    return model.config.model_id, of_model(model.folder, model.config.model_id)


def _delete(args: argparse.Namespace, paths: Paths) -> int:
    if args.name is None:
        raise BadArguments("what to delete is missing", "See what there is: idlebloom model")
    gone = _storage(paths).delete(args.name)
    if args.json:
        print(json.dumps({"name": gone.name, "size": gone.size}))
    else:
        print(f"{gone.name}: {size(gone.size)} removed")
    return 0


def _token(args: argparse.Namespace, paths: Paths) -> int:
    """An empty one takes back what was given before."""
    from core.handed import secrets_of
    from core.secrets import Secret

    prompt = "A token of the Hugging Face hub (not shown; empty: forget it): "
    token = (getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if token and (not token.isascii() or not token.isprintable() or " " in token):
        raise UserError("that is no token of the hub", "It is one word, such as hf_….")
    secrets = secrets_of(paths)
    if token:
        secrets.set(Secret.HUB_TOKEN, token)
    else:
        secrets.remove(Secret.HUB_TOKEN)
    where = secrets.notice or f"it is kept {secrets.where}"
    print(json.dumps({"stored": bool(token)}) if args.json else (where if token else "forgotten"))
    return 0


def _show(args: argparse.Namespace, paths: Paths) -> int:
    from core.node.licences import Licences, of_model
    from core.node.models import chosen
    from core.preferences import Preferences

    settings = Preferences(paths.settings_file).settings
    storage = _storage(paths)
    licence = accepted = None
    try:
        what = chosen(settings.model)
    except ModelError as error:
        raise UserError(error.message, error.advice) from error
    folder = storage.folder_for(what)
    if folder is not None:
        from core.model.config import read_config

        licence = of_model(folder, read_config(folder).model_id)
        accepted = not licence or Licences(paths.licences_file).accepted(licence)
    kept = storage.stored()
    if args.json:
        layers = [{"name": one.name, "size": one.size, "used_at": round(one.used_at)} for one in kept]
        print(
            json.dumps({"model": settings.model, "licence": licence, "accepted": accepted, "layers": layers})
        )
        return 0
    print(f"model    {settings.model}")
    match licence, accepted:
        case None, _:
            print("licence  known once the model was asked for")
        case "", _:
            print("licence  asks for nothing to be accepted")
        case _, True:
            print(f"licence  {licence}, accepted")
        case _, False:
            print(f"licence  {licence}, not accepted: idlebloom model accept")
    print(f"folder   {storage.root}, {size(sum(one.size for one in kept))} of {size(storage.cap)}")
    for one in kept:
        print(f"layers   {one.name}  {size(one.size)}")
    return 0


def _storage(paths: Paths) -> Storage:
    from core.node.storage import Storage
    from core.preferences import Preferences

    return Storage.of(Preferences(paths.settings_file).settings, paths)
