"""``idlebloom demo``: a private swarm of donors on this PC, and the chat page or one answer.

Everything lives in a temporary folder and on loopback; no setting is read or touched.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ModelError
from core.paths import Paths, bundled_model
from core.terms import Span
from idlebloom import answering, numbers
from idlebloom.progress import Progress

if TYPE_CHECKING:
    from core.routing.ask import Ask
    from idlebloom.demo_swarm import DemoSwarm, Plan

NAME = "demo"
HELP = "a private swarm on this PC with the bundled model, and the chat page"


def arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--donors", type=numbers.donors, default=3, metavar="N", help="how many donors (3)")
    group.add_argument(
        "--spans", type=_spans, metavar="A:B,…", help="the layers of each donor, such as 0:4,4:7,7:10"
    )
    parser.add_argument(
        "--model", metavar="FOLDER", help="another BLOOM checkpoint: a folder, or a model on the hub"
    )
    parser.add_argument(
        "--port", type=numbers.port, default=7714, metavar="N", help="of the chat page (7714)"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.add_argument(
        "--ask",
        type=answering.question,
        metavar="TEXT",
        help="print one answer instead of serving the page",
    )
    parser.add_argument(
        "--threads", type=numbers.donors, metavar="N", help="threads of each donor (the cores shared out)"
    )
    parser.add_argument(
        "--rest", type=numbers.rest, default=0.0, metavar="S", help="seconds that donors rest between steps"
    )
    parser.add_argument("--owned", action="store_true", help="end when standard input does")
    answering.arguments(parser)


def run(args: argparse.Namespace, paths: Paths) -> int:
    from core.swarm.loop import new_event_loop
    from idlebloom.demo_swarm import Plan
    from idlebloom.temporary import sweep

    ask = None if args.ask is None else answering.ask_of(args.ask, args)
    sweep()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        folder = bundled_model() if args.model is None else runner.run(_fetched(args, paths))
        plan = Plan.make(folder, args.spans, args.donors, args.threads, args.rest)
        return runner.run(_run(args, plan, ask))


async def _fetched(args: argparse.Namespace, paths: Paths) -> Path:
    """The folder of another model, all of it: a demo holds every layer. What is fetched is kept."""
    from core.model.hub import Source
    from core.node.licences import Licences
    from core.node.models import chosen
    from core.settings import Settings
    from idlebloom.visiting import fetch_all, model_of

    try:
        what = chosen(args.model)
    except ModelError as error:
        advice = "Give --model a folder with a checkpoint, or a model on the hub: bigscience/bloomz-560m."
        raise ModelError(error.message, advice) from None
    model = await model_of(args.model, Settings(), paths, quiet=args.json)
    Licences(paths.licences_file).check(model.folder, model.config.model_id)
    if isinstance(what, Source):
        await fetch_all(what, model, Settings(), paths, quiet=args.json)
    return model.folder


async def _run(args: argparse.Namespace, plan: Plan, ask: Ask | None) -> int:
    from idlebloom.demo_swarm import DemoSwarm
    from idlebloom.house import Place, door, end_with_input, told_to_end
    from idlebloom.spares import Spares

    end = told_to_end()
    if args.owned:
        end_with_input(end)
    async with DemoSwarm(plan, Progress(quiet=args.json or not sys.stderr.isatty())) as demo:
        if not await demo.ready(end):
            return 130
        demo.progress.done()
        if ask is not None:
            layers = range(demo.node.model.config.layers)
            if not all(any(layer in span for span in plan.spans) for layer in layers):
                ask = replace(ask, patience=0.0)  # nobody else comes to a swarm of one's own
            return await _answer(demo, ask, end, as_json=args.json)
        place = Place(args.port, demo.folder / "door.json", demo.folder / "history.sqlite3")
        async with door(demo.node, place, demo=Spares(demo)) as running:
            _greet(running.url, args)
            await demo.until(end)
    return 0


async def _answer(demo: DemoSwarm, ask: Ask, end: asyncio.Event, *, as_json: bool) -> int:
    answer = asyncio.create_task(answering.show(demo.node.generate(ask), as_json=as_json))
    watch = asyncio.create_task(demo.until(end))
    await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
    if answer.done():
        watch.cancel()
        await answer
        return 0
    answer.cancel()
    await asyncio.wait({answer})
    await watch
    return 130


def _greet(url: str, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)
    else:
        print(url, flush=True)
        print("The demo runs on this PC alone. Ctrl-C ends it.", file=sys.stderr)
    if (
        not args.no_browser
        and not args.json
        and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    ):
        webbrowser.open(url)


def _spans(text: str) -> tuple[Span, ...]:
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple(Span(int(start), int(end)) for start, end in pairs)
    except ValueError:
        raise argparse.ArgumentTypeError(f"“{text}” is no list of spans such as 0:4,4:7,7:10") from None
