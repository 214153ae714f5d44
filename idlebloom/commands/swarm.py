"""``idlebloom swarm``: who serves what, holes included."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from typing import Any

from core.door import find
from core.paths import Paths

NAME = "swarm"
HELP = "who serves what, holes included"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(args: argparse.Namespace, paths: Paths) -> int:
    running = find(paths.door_file)
    state = running.request("/api/v1/state") if running is not None else _visit(paths)
    print(json.dumps(state, ensure_ascii=False) if args.json else "\n".join(lines(state)))
    return 0


def _visit(paths: Paths) -> dict[str, Any]:
    from core.swarm.loop import new_event_loop
    from idlebloom.visiting import visitor
    from webchat.pages import state_shape

    async def look() -> dict[str, Any]:
        async with visitor(paths) as node:
            view = await node.look()
            records, others = await node.generator.records(), await node.elsewhere.models()
            return state_shape(node.card, view, records, others=others)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(look())


def lines(state: dict[str, Any]) -> list[str]:
    """The node's model, then the others of its swarm."""
    said = _model(state)
    for other in state.get("others", ()):
        said += ["", *_model(other)]
    return said


def _model(state: dict[str, Any]) -> list[str]:
    """A line a donor, drawn over the model's layers, then what is missing."""
    layers = state["blocks"] + 2
    said = [f"{state['model']}: {state['blocks']} blocks, layers 0 (words in) to {layers - 1} (words out)"]
    width = min(layers, 60)
    for donor in state["donors"]:
        start, end = donor["start"] * width // layers, -(-donor["end"] * width // layers)
        bar = "·" * start + "█" * (end - start) + "·" * (width - end)
        said.append(f"  {bar}  {donor['name']}  {', '.join(_about(donor))}")
    if state["whole"]:
        said.append("whole: every layer has a donor")
    elif state["donors"]:
        said.append(f"no donor for {' and '.join(_layers(span) for span in state['missing'])}")
    else:
        said.append("nobody serves it now")
    return said


def _about(donor: dict[str, Any]) -> Iterator[str]:
    yield _layers(donor)
    yield donor["state"]
    yield donor["device"]
    if donor["decode_rate"]:
        yield f"{donor['decode_rate']:.0f} tokens/s"
    if donor["mine"]:
        yield "this PC"


def _layers(span: dict[str, Any]) -> str:
    first, last = span["start"], span["end"] - 1
    return f"layer {first}" if first == last else f"layers {first} to {last}"
