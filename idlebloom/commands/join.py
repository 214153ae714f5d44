"""``idlebloom join``: into the swarm that a link leads to."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from core.door import find
from core.handed import secrets_of
from core.paths import Paths
from core.preferences import Preferences
from core.secrets import Secret
from core.settings import BUNDLED, Settings, changed

NAME = "join"
HELP = "join the swarm that an invite link leads to"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("link", metavar="LINK", help="what idlebloom invite printed, in quotes")


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.swarm.invite import Invite
    from idlebloom.reachability import Verdict, test_all

    invite = Invite.from_link(args.link)
    secrets = secrets_of(paths.make())
    if invite.secret is not None:
        secrets.set(Secret.SWARM, invite.secret.text)
    else:
        secrets.remove(Secret.SWARM)
    if secrets.notice:
        print(f"idlebloom: {secrets.notice}", file=sys.stderr)
    _change(paths, {"swarm": list(invite.meeting_points), "model": invite.model})
    running = find(paths.door_file) is not None
    verdict = asyncio.run(test_all(invite.meeting_points))
    if args.json:
        print(
            json.dumps(
                {
                    "swarm": list(invite.meeting_points),
                    "model": invite.model,
                    "private": invite.secret is not None,
                    "meeting_points": str(verdict),
                    "restart": running,
                }
            )
        )
        return 0
    kind = "a private swarm" if invite.secret is not None else "an open swarm"
    what = "the bundled demo model" if invite.model == BUNDLED else invite.model
    print(f"This PC now belongs to {kind}; its model is {what}.")
    if verdict is Verdict.SILENT:
        print("None of its meeting points answers now; they are tried again whenever a node runs.")
    print(
        "Start the node again: until then it stays in the swarm that it was in."
        if running
        else "Next: idlebloom node"
    )
    return 0


def _change(paths: Paths, values: dict[str, Any]) -> Settings:
    node = find(paths.door_file)
    if node is None:
        return Preferences(paths.settings_file).change(values).change.after
    return changed(Settings(), node.request("/api/settings", values, method="PUT"))
