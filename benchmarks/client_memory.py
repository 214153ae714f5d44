"""What a reader's PC needs: the node with its p2pd, with BLOOM's vocabulary, after it has answered.

    python -m benchmarks.client_memory [--answers N] [--out DIR]

A checkpoint with 250,880 words and a byte-level BPE of 250,680 tokens is made up; three donors serve it, and
``idlebloom node`` answers over them as it does for its page. What counts is resident memory, as the system
reports it: all of the node and of its p2pd, pages of libraries that others share included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from benchmarks.measure import Bar, Interval, Results, Row, Run
from benchmarks.swarm_of_workers import split, workers
from core.model.config import read_config
from core.paths import bundled_model, code
from core.swarm.loop import new_event_loop

NOTES = """\
`idlebloom node` with donate off, its p2pd beside it, after answers over three donors on loopback; a made-up
checkpoint with BLOOM's vocabulary of 250,880. The donors hold embeddings and head, so the model's size does
not matter here: for BLOOM-176B a Petals client holds above 7.2 GB. Resident memory counts pages that others
share."""

VOCAB, TOKENS = 250_880, 250_680
LONGEST = 12
"""Bytes of a made-up token; BLOOM's are about 7 on average."""
LIMIT_MB = 550.0


def tokenizer(folder: Path) -> None:
    """Writes a tokenizer as BLOOM's is, but for its words: each joins two that were there before."""
    made = json.loads((bundled_model() / "tokenizer.json").read_text("utf-8"))
    model, chance = made["model"], random.Random(0)
    words = [word for word, number in sorted(model["vocab"].items(), key=lambda item: item[1])]
    merges = list(model["merges"])
    known, parts = set(words), [word for word in words[4:] if len(word) < LONGEST]
    while len(words) < TOKENS:
        pair = [chance.choice(parts), chance.choice(parts)]
        word = "".join(pair)
        if len(word) > LONGEST or word in known:
            continue
        known.add(word)
        words.append(word)
        merges.append(pair)
        if len(word) < LONGEST // 2:
            parts.append(word)
    model["vocab"] = {word: number for number, word in enumerate(words)}
    model["merges"] = merges
    (folder / "tokenizer.json").write_text(json.dumps(made), "utf-8")
    shutil.copy2(bundled_model() / "tokenizer_config.json", folder)


def save(folder: Path) -> None:
    """A checkpoint with that vocabulary; a process of its own does this, for the memory it takes."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=VOCAB, hidden_size=64, n_layer=4, n_head=4, bos_token_id=1, eos_token_id=2
    )
    config.seq_length = 2048
    BloomForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    tokenizer(folder)


@asynccontextmanager
async def node(model: Path, data: Path, peers: list[str]) -> AsyncIterator[psutil.Process]:
    """``idlebloom node`` on that swarm, ready when entered."""
    command = (sys.executable, "-m", "idlebloom")
    where = {"cwd": code(), "env": dict(os.environ, OMP_NUM_THREADS="1")}
    words = ("settings", "set", "model", str(model), "--data", str(data))
    setting = await asyncio.create_subprocess_exec(*command, *words, **where)  # type: ignore[arg-type]
    if await setting.wait():
        raise RuntimeError("the model could not be set")
    process = await asyncio.create_subprocess_exec(
        *(*command, "node", "--json", "--data", str(data), "--peers", ",".join(peers)),
        stdout=asyncio.subprocess.PIPE,
        **where,  # type: ignore[arg-type]
    )
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise RuntimeError("the node did not start")
        yield psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def ask(data: Path, words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "idlebloom", "ask", words, "--data", str(data)),
        *("--max-tokens", "24", "--greedy", "--json"),
        cwd=code(),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    told = json.loads(out)
    if len(told["route"]) < 3 or not told["token_ids"]:
        raise RuntimeError("the answer did not come over three donors")


def resident(process: psutil.Process) -> tuple[float, float]:
    """MB of the node and of its p2pd."""
    network = [part for part in process.children(recursive=True) if part.name() == "p2pd"]
    mine = process.memory_info().rss
    return mine / 1e6, sum(part.memory_info().rss for part in network) / 1e6


async def measure(answers: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as made:
        model, data = Path(made, "model"), Path(made, "data")
        making = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.client_memory", "--save", str(model), cwd=code()
        )
        if await making.wait():
            raise RuntimeError("no checkpoint could be made")
        spans = split(read_config(model).layers, 3)
        async with (
            workers(model, spans, dtype="bfloat16", threads=1) as swarm,
            node(model, data, list(swarm.peer.addresses)) as process,
        ):
            found = []
            for number in range(answers):
                await ask(data, f"What is question {number} about, and why do you ask it {number} times?")
                found.append(resident(process))
    return Row(
        "node",
        "the node with its p2pd, a vocabulary of 250,880, after each of its answers",
        "MB",
        Interval.of(mine + network for mine, network in found),
        0,
        "bfloat16",
        Bar(LIMIT_MB, at_least=False),
        {"node": found[-1][0], "p2pd": found[-1][1]},
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client_memory")
    parser.add_argument("--answers", type=int, default=10)
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args()
    if chosen.save:
        save(chosen.save)
        return
    results = Results("Memory of a client", NOTES, chosen.out, "client_memory")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        results.put([runner.run(measure(chosen.answers))], Run.here(quick=chosen.answers < 6))
    print(results.markdown())


if __name__ == "__main__":
    main()
