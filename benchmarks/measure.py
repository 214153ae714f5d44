"""What every benchmark needs around its measurements: samples of answers, alternating rounds, medians
with their 95 % intervals, bars, the description of the run, and tables.

A row stands for itself: in JSON it carries the run it comes from (machine, versions, commit, time),
in Markdown the letter of that run, so that rows of several runs can stand in one table.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil

T = TypeVar("T")
PACKAGES = ("torch", "transformers", "hivemind", "uvloop")

# Samples


@dataclass(frozen=True)
class Timing:
    """One answer: when it was asked for and when each token was there, in seconds of one clock."""

    asked: float
    times: tuple[float, ...]
    ids: tuple[int, ...]

    @property
    def first(self) -> float:
        """Seconds from asking to the first token: the prompt's work."""
        return self.times[0] - self.asked

    @property
    def rate(self) -> float:
        """Tokens a second after the first, so without the prompt."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])

    @property
    def step(self) -> float:
        """Seconds a token, likewise."""
        return 1 / self.rate


class Contender(Protocol):
    """Whatever answers a prompt of token ids, greedily and with exactly ``count`` tokens."""

    async def answer(self, ids: Sequence[int], count: int) -> Timing: ...


async def rounds(
    contenders: Mapping[str, Contender],
    prompts: Sequence[Sequence[int]],
    count: int,
    seconds: float = math.inf,
    until: float = math.inf,
) -> dict[str, list[Timing]]:
    """The contenders take turns, A B A B …, one round a prompt; a first round is not counted. After
    ``seconds`` no other round is begun; one that has not ended by ``until`` (of ``time.monotonic``) is left
    out, so that there may be none."""
    timings: dict[str, list[Timing]] = {name: [] for name in contenders}
    last = time.monotonic() + seconds
    for number, ids in enumerate([prompts[0], *prompts]):
        if number > 1 and time.monotonic() > last:
            break
        round_ = await in_time(_round(contenders, ids, count), until)
        if round_ is None:
            break
        if number:
            for name, timing in round_.items():
                timings[name].append(timing)
    return timings


async def _round(contenders: Mapping[str, Contender], ids: Sequence[int], count: int) -> dict[str, Timing]:
    return {name: await contender.answer(ids, count) for name, contender in contenders.items()}


async def in_time(work: Coroutine[Any, Any, T], until: float) -> T | None:
    """What ``work`` returns; ``None`` where that takes longer than until then, by ``time.monotonic``."""
    try:
        async with asyncio.timeout(None if math.isinf(until) else until - time.monotonic()):
            return await work
    except TimeoutError:
        return None


async def readers(contender: Contender, prompts: Sequence[Sequence[int]], count: int) -> list[Timing]:
    """All prompts asked at once."""
    return list(await asyncio.gather(*(contender.answer(ids, count) for ids in prompts)))


def common_rate(timings: Sequence[Timing]) -> float:
    """Tokens a second of readers together while all of them decode: from the moment that the last one
    has its first token to the moment that the first one is done. For one reader, ``Timing.rate``."""
    start = max(timing.times[0] for timing in timings)
    end = min(timing.times[-1] for timing in timings)
    if end <= start:
        raise ValueError("the readers never decoded at the same time: ask for more tokens")
    return sum(sum(start < at <= end for at in timing.times) for timing in timings) / (end - start)


def whole_rate(timings: Sequence[Timing]) -> float:
    """Tokens a second of readers together from asking to the last token, prompts included."""
    start = min(timing.asked for timing in timings)
    end = max(timing.times[-1] for timing in timings)
    return sum(len(timing.times) for timing in timings) / (end - start)


def same_ids(one: Sequence[Timing], other: Sequence[Timing]) -> float:
    """The part of the rounds in which both gave the same tokens."""
    return statistics.fmean(a.ids == b.ids for a, b in zip(one, other, strict=True))


class Others:
    """How many cores other programs took since this was made: what makes numbers on a shared machine
    wander. Processes that this one started are its own, also those that have ended."""

    def __init__(self) -> None:
        self._at, self._busy, self._own = time.monotonic(), _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return max(others / (time.monotonic() - self._at), 0.0)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _own_seconds() -> float:
    this = psutil.Process()
    total = 0.0
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # those of ended children included
    return total


# Medians and bars


@dataclass(frozen=True)
class Interval:
    """A median and the interval of order statistics that holds it with at least 95 %."""

    low: float
    median: float
    high: float
    count: int
    values: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """All of them, in the order in which they were measured."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """Between the k-th smallest and the k-th largest value, k the largest for which the chance of
        k - 1 or fewer of n fair coins is at most 2.5 %. Below 6 values that is never so: the extremes."""
        values = tuple(values)
        ordered = sorted(values)
        n, below, k = len(ordered), 0.0, 0
        while k < n // 2 and below + math.comb(n, k) / 2**n <= 0.025:
            below += math.comb(n, k) / 2**n
            k += 1
        k = max(k, 1)
        return cls(ordered[k - 1], statistics.median(ordered), ordered[n - k], n, values)


@dataclass(frozen=True)
class Bar:
    """What must be reached, by the whole interval."""

    limit: float
    at_least: bool = True

    def met(self, value: Interval) -> bool:
        return value.low >= self.limit if self.at_least else value.high <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    @classmethod
    def read(cls, words: str) -> Bar:
        """The reverse of ``str``."""
        sign, limit = words.split(" ")
        return cls(float(limit), sign == "≥")


def verdict(bar: Bar | None, value: Interval) -> str:
    if bar is None:
        return ""
    if bar.met(value):
        return "met"
    turned = Bar(bar.limit, not bar.at_least)
    return "not met" if turned.met(value) else "not met (the interval holds the bar)"


@dataclass(frozen=True)
class Row:
    """One number. ``name`` is what ``--only`` selects it by; ``beside`` are other numbers of the same
    rounds, for the reader; ``bound`` says in words and measured numbers what bounds it."""

    name: str
    what: str
    unit: str
    value: Interval
    threads: int
    dtype: str
    bar: Bar | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    bound: str = ""

    @property
    def verdict(self) -> str:
        return verdict(self.bar, self.value)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "bar": str(self.bar) if self.bar else None, "verdict": self.verdict}


# Runs


@dataclass(frozen=True)
class Run:
    """Where and with what numbers were measured. ``load`` is the system's at the start: others on
    the same machine make numbers wander."""

    machine: str
    cores: int
    memory_gib: float
    system: str
    versions: Mapping[str, str]
    at: str
    load: float
    quick: bool

    @classmethod
    def here(cls, *, quick: bool) -> Run:
        return cls(
            machine=_cpu() + _held(),
            cores=os.cpu_count() or 1,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            system=f"{platform.system()} {platform.release()}",
            versions={
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in PACKAGES},
                "idlebloom": _commit(),
            },
            at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            load=round(os.getloadavg()[0], 1),
            quick=quick,
        )

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        quick = " Quick: too few samples to judge by." if self.quick else ""
        return (
            f"{self.at}, {self.machine}, {self.cores} cores, {self.memory_gib} GiB, {self.system}; "
            f"{versions}; load {self.load} at the start.{quick}"
        )


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _held() -> str:
    """Benchmarks that run side by side are kept apart by taskset."""
    held, all_ = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    return f" (held to {held} of its cores)" if held < all_ else ""


def _commit() -> str:
    """The commit of the code that is measured, and whether files of ``core`` differ from it."""
    if told := os.environ.get("BENCHMARKS_COMMIT"):  # of a copy that is no checkout
        return told
    top = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(top), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "core", "assets/model")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# Tables

Result = dict[str, Any]
"""A row as JSON, with its run under ``run``."""


class Results:
    """The rows of one benchmark, and its two files in ``folder``: what is measured anew replaces rows
    of the same name, others stay with the run they came from. No folder: nothing is written."""

    def __init__(self, title: str, notes: str, folder: Path | None, stem: str) -> None:
        self.title, self.notes = title, notes
        self._files = None if folder is None else (folder / f"{stem}.json", folder / f"{stem}.md")
        self.rows: list[Result] = []
        if self._files is not None and self._files[0].exists():
            self.rows = json.loads(self._files[0].read_text(encoding="utf-8"))["rows"]

    def put(self, rows: Sequence[Row], run: Run) -> None:
        """Takes rows in place of those of their names, and writes the files."""
        self.take([{**row.as_json(), "run": asdict(run)} for row in rows])

    def take(self, new: Sequence[Result]) -> None:
        """The same, of rows that carry their runs already."""
        names = {row["name"] for row in new}
        place = next((at for at, row in enumerate(self.rows) if row["name"] in names), len(self.rows))
        kept = [row for row in self.rows if row["name"] not in names]
        self.rows = [*kept[:place], *new, *kept[place:]]
        if self._files is not None:
            self._files[0].parent.mkdir(parents=True, exist_ok=True)
            written = {"title": self.title, "notes": self.notes, "rows": self.rows}
            self._files[0].write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", "utf-8")
            self._files[1].write_text(self.markdown(), "utf-8")

    def markdown(self) -> str:
        runs: list[dict[str, Any]] = []
        lines = []
        for row in self.rows:
            if row["run"] not in runs:
                runs.append(row["run"])
            lines.append(_line(row, _letter(runs.index(row["run"]))))
        bounds = [f"- **{row['what']}**: {row['bound']}" for row in self.rows if row["bound"]]
        return "\n".join(
            [
                f"# {self.title}",
                "",
                self.notes,
                "",
                "| what | median | 95 % interval | n | bar | verdict | threads | dtype | beside | run |",
                "|---|---|---|---|---|---|---|---|---|---|",
                *lines,
                "",
                *(["What bounds them:", "", *bounds, ""] if bounds else []),
                "Runs:",
                "",
                *(f"- {_letter(number)}: {Run(**run)}" for number, run in enumerate(runs)),
                "",
            ]
        )


def _line(row: Result, run: str) -> str:
    value, unit = row["value"], f" {row['unit']}".rstrip()
    cells = [
        row["what"],
        f"{_number(value['median'])}{unit}",
        f"{_number(value['low'])} to {_number(value['high'])}",
        str(value["count"]),
        row["bar"] or "",
        row["verdict"],
        str(row["threads"]),
        row["dtype"],
        "; ".join(f"{name} {_number(number)}" for name, number in row["beside"].items()),
        run,
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    """Three digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else str(number)
