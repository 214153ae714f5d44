"""An answer in the terminal: streamed for a person, or one JSON object for a program."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import AsyncIterator
from typing import Any

from core.routing.ask import Ask, Ended, Event, Message, Piece, Started, Waiting
from core.terms import Sampling
from idlebloom import numbers


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-tokens", type=numbers.tokens, metavar="N", help="at most N new tokens")
    parser.add_argument("--greedy", action="store_true", help="always the likeliest word")
    parser.add_argument("--seed", type=numbers.seed, metavar="S", help="the same seed gives the same answer")


def question(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("the question is empty, write something between the quotes")
    return text


def ask_of(text: str, args: argparse.Namespace) -> Ask:
    """The request that the arguments make: a chat message, drawn with a seed of its own by default."""
    seed = args.seed if args.seed is not None else secrets.randbelow(1 << 31)
    sampling = Sampling() if args.greedy else Sampling(temperature=0.7, top_p=0.9, seed=seed)
    return Ask((Message("user", text),), args.max_tokens, sampling)


async def show(events: AsyncIterator[Event], *, as_json: bool) -> None:
    """Prints the answer as it comes, or the whole as JSON at its end."""
    started: Started | None = None
    # The first token carries the blank that stands between words: to a person it is a crooked first line. A
    # program gets the text as its tokens spell it, through a pipe as in JSON.
    bare = sys.stdout.isatty()
    async for event in events:
        match event:
            case Started():
                started = event
            case Waiting() if not as_json and sys.stderr.isatty():  # else stderr is for what went wrong
                print(waiting_line(event), file=sys.stderr)
            case Piece() if not as_json:
                text = event.text.lstrip() if bare else event.text
                bare = bare and not text
                sys.stdout.write(text)
                sys.stdout.flush()
            case Ended() if started is not None:
                print(json.dumps(summary(started, event), ensure_ascii=False) if as_json else "")
                if not as_json:
                    print(closing_line(started, event), file=sys.stderr)


def summary(started: Started, ended: Ended) -> dict[str, Any]:
    return {
        "text": ended.text,
        "token_ids": list(ended.token_ids),
        "prompt_tokens": ended.prompt_tokens,
        "seconds": round(ended.seconds, 4),
        "first_token_seconds": round(ended.first_token_seconds, 4),
        "tokens_per_second": round(ended.tokens_per_second, 2),
        "finish": ended.finish.value,
        "model": started.model_id,
        "route": [
            {"peer": stage.peer_id, "start": stage.span.start, "end": stage.span.end}
            for stage in started.route.stages
        ],
        "predicted": {"seconds_per_token": round(ended.predicted_seconds, 6)},
        "measured": {"seconds_per_token": round(ended.token_seconds, 6)},
    }


def waiting_line(waiting: Waiting) -> str:
    """What is waited for, for a person."""
    layers = " and ".join(f"{span.start} to {span.end - 1}" for span in waiting.missing)
    what = f"a donor of layers {layers}" if layers else "the swarm"
    return f"[waiting for {what}{f': {waiting.why}' if waiting.why else ''}]"


def closing_line(started: Started, ended: Ended) -> str:
    """What it took, for a person."""
    donors = len(started.route.stages)
    return (
        f"[{len(ended.token_ids)} tokens over {donors} donor{'s' if donors != 1 else ''}, "
        f"first after {ended.first_token_seconds:.2f} s, {ended.tokens_per_second:.1f} tokens/s"
        f"{f', predicted {1 / ended.predicted_seconds:.1f}' if ended.predicted_seconds else ''}]"
    )
