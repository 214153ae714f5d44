"""Donors are killed, hung and restarted at random under readers; none may notice but by a pause.

    python -m benchmarks.soak [--kills N] [--minutes M] [--continue] [--log FILE] [--out FOLDER]
    python -m benchmarks.soak --take FILE … [--log FILE] [--out FOLDER]

Every layer is on two donors, real worker processes that serve the bundled model, as root each on a host of
its own whose link can be cut; readers in one client process ask greedy and seeded prompts. First each prompt
is answered undisturbed; what it says then it must say ever after. Each disturbance and each answer is a line
of JSON in ``--log``, which ``--continue`` goes on with: N is how many the file shall hold in all.
Ctrl-C ends it in order. ``--take`` adds logs that were written elsewhere, or side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.internet.network import Host
from benchmarks.judge import Judge
from benchmarks.measure import Run
from benchmarks.replicas import CUT, KINDS, Replicas, replicas
from benchmarks.swarm_of_workers import split
from core.errors import IdlebloomError
from core.paths import bundled_model
from core.routing.ask import Ask, Ended, Moved, Piece, Started, Waiting
from core.routing.generate import Generator
from core.swarm.loop import new_event_loop
from core.terms import PeerId, Sampling

READERS = 8
SPANS = 3
AT_ONCE = 3
"""Donors disturbed at the same time: of each span one, never both."""
REST = 0.004
"""Seconds that a donor sleeps after each step, so that answers last."""
BREATH_SECONDS = (0.2, 0.8)
"""Between one disturbance and the next, three times at once;"""
GOT_ON, LONGEST_BREATH = 6, 10.0
"""and until so many readers have had a token since, but no longer than these seconds: a PC that others keep
busy is disturbed more slowly, and not until it does nothing but recover."""
IN_USE = 0.75
"""Of so many of the disturbances the donor is one that a reader uses, while there is one."""
RESULTS = Path(__file__).parent / "results"

CUT_WORDS = "the link of its host is down for a while: packets vanish, and nobody is told"

SAID = "the moon is a computer that lends its idle hours to people who ask what flowers are made of"
SEEDED = Sampling(
    temperature=0.9, top_p=0.95, top_k=200, repetition_penalty=1.1, frequency_penalty=0.2, seed=1234
)

Line = dict[str, Any]
Write = Callable[[Line], None]


@dataclass(frozen=True)
class Question:
    """A prompt with how it is answered: greedily or seeded."""

    words: str
    tokens: int
    sampling: Sampling

    @property
    def ask(self) -> Ask:
        return Ask(self.words, max_tokens=self.tokens, sampling=self.sampling)


def questions(longest: int = 400) -> tuple[Question, ...]:
    """Prompts of about 3 to ``longest`` tokens, in words that the model knows."""
    chance, words = random.Random(5), SAID.split(" ")
    lengths = (3, 20, 60, longest // 2, longest)
    prompts = [" ".join(chance.choice(words) for _ in range(length)) for length in lengths]
    return tuple(
        Question(prompt, 60 + 20 * number, sampling)
        for number, prompt in enumerate(prompts)
        for sampling in (Sampling(), SEEDED)
    )


class Readers:
    """Ask one question after the other until told to stop."""

    def __init__(self, swarm: Replicas, asked: Sequence[Question], write: Write) -> None:
        self.generator: Generator = swarm.generator()
        self.using: dict[int, frozenset[PeerId]] = {}
        """The donors of each reader's answer under way."""
        self._token_at: dict[int, float] = {}
        self._asked, self._write = asked, write
        self._judge = Judge(swarm.folder)
        self._right: dict[Question, tuple[int, ...]] = {}
        self._stopped = False

    async def learn(self) -> None:
        """Answers each question undisturbed."""
        for question in self._asked:
            async for event in self.generator.generate(question.ask):
                if isinstance(event, Ended):
                    self._right[question] = event.token_ids

    async def read(self, reader: int) -> None:
        chance = random.Random(reader)
        while not self._stopped:
            question = chance.choice(self._asked)
            self._write(await self._answer(reader, question))

    async def got_on(self, since: float) -> None:
        """Returns when most readers have had a token after ``since``, or after a while."""
        until = time.monotonic() + LONGEST_BREATH
        while time.monotonic() < until:
            if sum(at > since for at in self._token_at.values()) >= min(GOT_ON, len(self._token_at)):
                return
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Lets what is being answered end."""
        self._stopped = True

    async def _answer(self, reader: int, question: Question) -> Line:
        stalls: list[float] = []
        waits, error = 0, ""
        ids: tuple[int, ...] = ()
        started = time.monotonic()
        try:
            async for event in self.generator.generate(question.ask):
                match event:
                    case Started(route=route) | Moved(route=route):
                        self.using[reader] = frozenset(stage.peer_id for stage in route.stages)
                        if isinstance(event, Moved):
                            stalls.append(round(event.seconds, 4))
                    case Waiting():
                        waits += 1
                    case Piece():
                        self._token_at[reader] = time.monotonic()
                    case Ended():
                        ids = event.token_ids
        except IdlebloomError as failed:
            error = f"{type(failed).__name__}: {failed}"
        self.using.pop(reader, None)
        text = "" if error else self._verdict(question, ids)
        line: Line = {
            "event": "answer",
            "at": round(time.time(), 2),
            "reader": reader,
            "seeded": bool(question.sampling.temperature),
            "tokens": len(ids),
            "seconds": round(time.monotonic() - started, 3),
            "stalls": stalls,
            "waits": waits,
            "error": error,
            "text": text,
        }
        if text == "wrong":  # whoever looks for the fault starts here
            line |= {"asked": question.words, "seed": question.sampling.seed}
            line |= {"ids": list(ids), "right": list(self._right[question])}
        return line

    def _verdict(self, question: Question, ids: tuple[int, ...]) -> str:
        prompt = self.generator.text.encode(question.words)
        return self._judge.verdict(prompt, self._right[question], ids, question.sampling)


async def disturb(swarm: Replicas, readers: Readers, plan: Plan, write: Write) -> None:
    """As many disturbances as planned, several spans at a time."""
    left, chance = iter(range(plan.count)), random.Random(plan.seed)
    until = time.monotonic() + plan.seconds
    kinds = [*KINDS, CUT] if plan.hosts else list(KINDS)

    async def one_after_the_other() -> None:
        started = time.monotonic()
        for _ in left:
            if time.monotonic() > until:
                return
            await readers.got_on(started)
            await asyncio.sleep(chance.uniform(*BREATH_SECONDS))
            kind, started = chance.choice(kinds), time.monotonic()
            using = frozenset[PeerId]().union(*readers.using.values())
            wanted = using if chance.random() < IN_USE else frozenset[PeerId]()
            struck: list[int] = []

            def strike(peer: PeerId | None, struck: list[int] = struck) -> None:
                struck.append(sum(peer in used for used in readers.using.values()))

            victim = await swarm.disturb(kind, chance, wanted, strike)
            write(
                {
                    "event": "disturbance",
                    "at": round(time.time(), 2),
                    "kind": kind,
                    "role": victim.role,
                    "readers": struck[0],
                    "seconds": round(time.monotonic() - started, 3),
                }
            )

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


@dataclass(frozen=True)
class Plan:
    """How many disturbances, but none after ``seconds``; ``hosts``: with links that are cut, too."""

    count: int
    seconds: float = math.inf
    seed: int | None = None
    hosts: bool = False


def host(name: str) -> Host:
    """Fast and near, so that what is found is not the link's."""
    return Host(name, 1000, 1000, 0.5)


async def soak(plan: Plan, write: Write, *, readers: int = READERS, asked: Sequence[Question] = ()) -> None:
    """Disturbances under ``readers``; every answer begun is ended. Errors of readers are written down,
    not raised."""
    layers = 10  # of the bundled model: 8 blocks and both ends
    hosts = host if plan.hosts else None
    async with replicas(bundled_model(), split(layers, SPANS), rest=REST, hosts=hosts) as swarm:
        reading = Readers(swarm, asked or questions(), write)
        await reading.learn()
        tasks = [asyncio.create_task(reading.read(reader)) for reader in range(readers)]
        await disturb(swarm, reading, plan, write)
        reading.stop()
        await asyncio.gather(*tasks)
        await reading.generator.leave()


# What came of it


@dataclass(frozen=True)
class Summary:
    """Of all lines of a log. ``stalls`` are seconds without a token, one for each time an answer moved."""

    disturbances: int
    kinds: dict[str, int]
    roles: dict[str, int]
    in_use: int
    answers: int
    greedy: int
    seeded: int
    tokens: int
    recoveries: int
    waits: int
    stall_median: float
    stall_p95: float
    stall_longest: float
    errors: int
    wrong: int
    ties: int
    first_errors: tuple[str, ...]


def summary(lines: Sequence[Line]) -> Summary:
    done = [line for line in lines if line["event"] == "disturbance"]
    answers = [line for line in lines if line["event"] == "answer"]
    stalls = sorted(stall for line in answers for stall in line["stalls"])
    errors = [line["error"] for line in answers if line["error"]]
    verdicts = Counter(line["text"] for line in answers)
    return Summary(
        disturbances=len(done),
        kinds=dict(Counter(line["kind"] for line in done)),
        roles=dict(Counter(line["role"] for line in done)),
        in_use=sum(line["readers"] > 0 for line in done),
        answers=len(answers),
        greedy=sum(not line["seeded"] for line in answers),
        seeded=sum(line["seeded"] for line in answers),
        tokens=sum(line["tokens"] for line in answers),
        recoveries=len(stalls),
        waits=sum(line["waits"] for line in answers),
        stall_median=statistics.median(stalls) if stalls else 0.0,
        stall_p95=stalls[int(0.95 * (len(stalls) - 1))] if stalls else 0.0,
        stall_longest=stalls[-1] if stalls else 0.0,
        errors=len(errors),
        wrong=verdicts["wrong"],
        ties=verdicts["tie"],
        first_errors=tuple(errors[:5]),
    )


def markdown(found: Summary, runs: Sequence[Line]) -> str:
    stall = f"median {found.stall_median:.2f} s, 95 % below {found.stall_p95:.2f} s"
    rows = {
        "disturbances": f"{found.disturbances} of the 1,000 aimed at; {found.in_use} hit a donor in use",
        "by kind": ", ".join(f"{kind} {number}" for kind, number in sorted(found.kinds.items())),
        "by role": ", ".join(f"{role} {number}" for role, number in sorted(found.roles.items())),
        "answers": f"{found.answers} ({found.greedy} greedy, {found.seeded} seeded), {found.tokens} tokens",
        "recoveries": str(found.recoveries),
        "stall of a recovery": f"{stall}, longest {found.stall_longest:.2f} s",
        "times a reader was told to wait": str(found.waits),
        "readers' errors": "; ".join([str(found.errors), *found.first_errors]),
        "wrong texts": f"{found.wrong} ({found.ties} ties within 1e-3)",
    }
    return PAGE.format(
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        kinds="\n".join(f"- **{kind}**: {words}" for kind, words in (KINDS | {CUT: CUT_WORDS}).items()),
        runs="\n".join(f"- {Run(**line['run'])} {line.get('note', '')}".rstrip() for line in runs),
    )


PAGE = f"""# Soak: donors that vanish under readers

Every layer of the bundled model is on two donors ({2 * SPANS} worker processes, float32, which sleep
{1000 * REST:g} ms after each step; where links are cut, on hosts of their own), {READERS} readers ask at
once, {AT_ONCE} donors are disturbed at a time, never both of a layer. A stall is the time without a token
when an answer moves, detection included.

| what | found |
|---|---|
{{rows}}

Kinds:

{{kinds}}

Runs:

{{runs}}
"""


def lines_of(file: Path) -> list[Line]:
    """The log so far; a last line that a killed run left half written is dropped."""
    lines: list[Line] = []
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="disturbances in all (1000)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="none is begun after so long")
    parser.add_argument("--seed", type=int, help="of what is drawn by chance")
    parser.add_argument("--continue", dest="on", action="store_true", help="go on with the log")
    parser.add_argument("--take", nargs="+", type=Path, default=[], help="logs to be added, nothing else")
    parser.add_argument("--log", type=Path, default=RESULTS / "soak.jsonl", help="lines of JSON")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for soak.md and soak.json")
    chosen = parser.parse_args()
    chosen.log.parent.mkdir(parents=True, exist_ok=True)
    if chosen.take:
        with chosen.log.open("a", encoding="utf-8") as opened:
            for file in chosen.take:
                opened.writelines(json.dumps(line) + "\n" for line in lines_of(file))
        report(chosen.log, chosen.out)
        return
    if chosen.log.exists() and not chosen.on:
        sys.exit(f"{chosen.log} exists: go on with --continue, or remove it")
    before = sum(line["event"] == "disturbance" for line in lines_of(chosen.log))
    left = max(0, chosen.kills - before)
    _run(Plan(left, 60 * chosen.minutes, chosen.seed, hosts=not os.geteuid()), chosen.log, chosen.out)


def _run(plan: Plan, file: Path, out: Path) -> None:
    with file.open("a", encoding="utf-8", buffering=1) as opened:

        def write(line: Line) -> None:
            opened.write(json.dumps(line) + "\n")

        write({"event": "run", "run": asdict(Run.here(quick=False))})
        try:
            with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(soak(plan, write))
        finally:
            report(file, out)


def report(file: Path, out: Path) -> None:
    """Writes ``soak.json`` and ``soak.md`` from the log."""
    lines = lines_of(file)
    found, runs = summary(lines), [line for line in lines if line["event"] == "run"]
    out.mkdir(parents=True, exist_ok=True)
    written = {**asdict(found), "runs": [line["run"] for line in runs]}
    (out / "soak.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    (out / "soak.md").write_text(markdown(found, runs), encoding="utf-8")
    print(markdown(found, runs))


if __name__ == "__main__":
    main()
