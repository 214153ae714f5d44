"""``idlebloom ask``: one answer in the terminal, streamed."""

from __future__ import annotations

import argparse
import asyncio

from core.door import find
from core.paths import Paths
from idlebloom import answering

NAME = "ask"
HELP = "one answer in the terminal, streamed"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", type=answering.question, help="the question")
    answering.arguments(parser)


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.swarm.loop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_ask(args, paths))
    return 0


async def _ask(args: argparse.Namespace, paths: Paths) -> None:
    ask = answering.ask_of(args.text, args)
    running = find(paths.door_file)
    if running is not None:
        from idlebloom import remote

        await answering.show(remote.generate(running, ask), as_json=args.json)
        return
    from idlebloom.visiting import visitor

    async with visitor(paths) as node:
        await answering.show(node.generate(ask), as_json=args.json)
