"""``idlebloom invite``: a link with which others join this PC's swarm."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import NodeError, UserError
from core.handed import secrets_of
from core.kinds import Addresses
from core.paths import Paths
from core.preferences import Preferences
from core.secrets import Secret

if TYPE_CHECKING:
    from core.swarm.reach import Access
    from core.swarm.secret import Secret as SwarmSecret

NAME = "invite"
HELP = "a link with which others join this swarm; tests whether they can"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--meet", type=_addresses, metavar="ADDR,…", help="meeting points to name (the setting swarm)"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--open", action="store_true", help="without a secret: for a swarm that is open to all"
    )
    group.add_argument(
        "--new-secret", action="store_true", help="make another secret: links of before lead nowhere any more"
    )


@dataclass(frozen=True)
class Places:
    """The meeting points to name; ``access`` where they are this PC's own."""

    addresses: tuple[str, ...]
    access: Access | None


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.swarm.invite import Invite
    from core.swarm.whereabouts import find
    from idlebloom.reachability import FIXES, judged, test_all

    settings = Preferences(paths.settings_file).settings
    if settings.model.startswith(("/", "~", ".")):
        raise UserError(
            f"the model {settings.model} is a folder of this PC, which others do not have",
            "Choose one of the hub: idlebloom settings set model NAME.",
        )
    running = find(paths.runtime)
    places = _places(args.meet or settings.swarm, paths)
    secret, is_new = (None, False) if args.open else _secret(paths, new=args.new_secret)
    verdict = asyncio.run(test_all(places.addresses))
    if places.access is not None:
        verdict = judged(verdict, places.access)
    restart = running is not None and (is_new or running.private != (secret is not None))
    link = Invite(places.addresses, settings.model, secret).link
    if args.json:
        print(
            json.dumps(
                {
                    "link": link,
                    "reach": str(verdict),
                    "fix": FIXES[verdict],
                    "meeting_points": list(places.addresses),
                    "private": secret is not None,
                    "restart": restart,
                }
            )
        )
        return 0
    print(link)
    print(f"Meeting points: {verdict}. {FIXES[verdict]}".rstrip(), file=sys.stderr)
    if secret is not None:
        print("Whoever has the link can join, and read what is asked there.", file=sys.stderr)
    if restart:
        print(
            "Start the node and your meeting points again: they do not know the secret yet.", file=sys.stderr
        )
    return 0


def _places(chosen: tuple[str, ...], paths: Paths) -> Places:
    from core.swarm.whereabouts import find

    if chosen:
        return Places(chosen, None)
    running = find(paths.runtime)
    if running is None:
        raise NodeError(
            "there is no meeting point to invite to",
            "Start one: idlebloom bootstrap, or idlebloom node. Or name one with --meet.",
        )
    return Places(_worth_naming(running.addresses), running.access)


def _worth_naming(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Others cannot use this PC's own loopback, unless there is nothing else."""
    beyond = tuple(address for address in addresses if not address.startswith("/ip4/127."))
    return beyond or addresses


def _secret(paths: Paths, *, new: bool) -> tuple[SwarmSecret, bool]:
    """The secret of this PC's swarm, made where there is none or a new one is wanted."""
    from core.swarm.secret import Secret as SwarmSecret
    from idlebloom.membership import stored_secret

    secrets = secrets_of(paths.make())
    known = None if new else stored_secret(secrets)
    made = known or SwarmSecret.make()
    if known is None:
        secrets.set(Secret.SWARM, made.text)
    if secrets.notice:
        print(f"idlebloom: {secrets.notice}", file=sys.stderr)
    return made, known is None


def _addresses(text: str) -> tuple[str, ...]:
    try:
        return Addresses().parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be {error}") from None
