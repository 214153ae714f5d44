"""Which span this PC serves: what ``core.serving.fit`` finds room for, placed by ``core.serving.choose``
over the swarm's records."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from core.model.config import ModelConfig
from core.model.cost import Form, Numbers, costs
from core.pc.gpu import Gpu
from core.serving.choose import Choice, Hand, Why, among, choose, left_to_others, may_go
from core.serving.fit import Fit, Fitting, Room, Wish
from core.serving.levels import STRANGERS, WINDOW_SECONDS, Ends, Levels, Opinion, levels, turn
from core.settings import Quantize, Settings
from core.terms import PeerId, Record, Span, WireDtype

CONTEXT = 500 << 20
"""Bytes of a worker and its p2pd before the first layer: 290 and 61 MiB were measured, and the heap grows."""
GPU_CONTEXT = 600 << 20
"""Bytes of a GPU that the driver takes for a process, with the kernels it loads."""
PROMPT_ROWS = 512
"""Rows of a prompt that a step of the engine may run at once."""
LEFT = 0.25
"""The part of the free memory that is left to the owner's other programs."""
LEAVE_LEAST = 2 * 10**9
LOGS_MOST = 4 * 10**9
LOGS_PART = 8
"""On the CPU logs share the memory of layers and caches: one part of so many."""
PLENTY = 10**15
"""More bytes than any disk: what is in a local folder needs none."""
SETTLED = 0.5
"""A span is kept after a restart if no more than this part of it has to be fetched anew."""

QuantizedAs = Literal["none", "int8", "nf4"]
ReadOver = Callable[[Collection[Record]], Awaitable[Collection[PeerId]]]
"""Reads a few words over a route made of these donors: who answered, or nobody."""


async def nobody(_records: Collection[Record]) -> Collection[PeerId]:
    """Where nothing can be read nothing is left."""
    return ()


@dataclass(frozen=True)
class Means:
    """What layers are served with: ``device`` is ``cpu`` or ``cuda:N``, ``dtype`` what it computes in."""

    device: str = "cpu"
    quantization: QuantizedAs = "none"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def form(self, *, stored: int, tied: bool = True) -> Form:
        """How layers are held; ``stored`` are bytes a number in the checkpoint's files."""
        numbers = Numbers(self.dtype)
        if self.quantization != "none":
            return Form(numbers, Numbers(self.quantization), Numbers.INT8, stored, tied)
        # On the CPU a 16-bit head is held in float16.
        half = Numbers.FLOAT16 if numbers is Numbers.BFLOAT16 and not self.on_gpu else numbers
        return Form(numbers, numbers, half, stored, tied)


def means(settings: Settings, gpus: Sequence[Gpu], fast: Literal["float32", "bfloat16"]) -> Means:
    """What the settings mean on a PC with these usable GPUs, whose CPU is fastest in ``fast``. A GPU without
    bfloat16 computes in float32."""
    device = settings.device
    if device == "auto":
        device = "cuda:0" if gpus else "cpu"
    chosen = settings.quantization
    on_gpu = device != "cpu"
    if chosen is Quantize.AUTO:
        chosen = Quantize.NF4 if on_gpu else Quantize.NONE
    kinds: dict[Quantize, QuantizedAs] = {Quantize.NF4: "nf4", Quantize.INT8: "int8"}
    kind = kinds.get(chosen, "none")
    if not on_gpu:
        return Means(device, kind, fast)
    number = int(device.partition(":")[2] or 0)
    able = number >= len(gpus) or gpus[number].bfloat16
    return Means(device, kind, "bfloat16" if able else "float32")


def cpu_budget(settings: Settings, available: int) -> int:
    """Bytes of system memory that serving on the CPU may take, of ``available`` ones: its own worker's
    counted as available."""
    if settings.ram_gb is not None:
        return min(int(settings.ram_gb * 1e9), available)
    return int(available * (1 - LEFT))


def gpu_budget(settings: Settings, total: int, free: int) -> int:
    """Bytes of a GPU's memory that serving may take; ``free`` counts its own worker's as free."""
    leave = settings.leave_vram_gb
    kept = max(LEAVE_LEAST, total // 4) if leave is None else int(leave * 1e9)
    return max(0, min(total - kept, free))


def log_budget(settings: Settings, means: Means, budget: int, available: int) -> int:
    """Bytes of system memory for logs of outputs: on the CPU they are part of ``budget``."""
    if not means.on_gpu:
        return min(LOGS_MOST, budget // LOGS_PART)
    if settings.ram_gb is not None:
        return int(settings.ram_gb * 1e9)
    return min(LOGS_MOST, available // 4)


@dataclass(frozen=True)
class Place:
    """What a worker is told to serve."""

    span: Span
    cache_tokens: int


def room_of(fitting: Fitting) -> int:
    """What a record says of it, so that others know what would fit here."""
    return fitting.room.memory


def ends_of(config: ModelConfig) -> Ends:
    """What would fit other donors, from what their records say: how they hold layers, and the room they
    have. One that says nothing of it stays where it is."""

    @lru_cache(maxsize=256)
    def ends(room: int, how: Means) -> tuple[int, ...]:
        table = costs(config, how.form(stored=2))
        return Fitting(table, Room(room, room, PLENTY, workspace=_workspace(config))).ends()

    def found(record: Record) -> Sequence[int]:
        if not record.room:
            return [record.span.end if layer in record.span else layer for layer in range(config.layers)]
        return ends(record.room, _means_of(record))

    return found


def _means_of(record: Record) -> Means:
    kinds: dict[str, QuantizedAs] = {"int8": "int8", "nf4": "nf4"}
    wide = record.wire[:1] == (WireDtype.FLOAT32,)
    # Which GPU makes no difference.
    device = "cpu" if record.device == "cpu" else "cuda:0"
    return Means(device, kinds.get(record.quantization, "none"), "float32" if wide else "bfloat16")


def _workspace(config: ModelConfig) -> int:
    return 16 * max(8 * config.hidden * PROMPT_ROWS, config.vocab)


def fitting(
    config: ModelConfig,
    means: Means,
    budget: int,
    *,
    disk: int = PLENTY,
    stored: int = 4,
    tied: bool = True,
) -> Fitting:
    """What fits in ``budget`` bytes of the device and ``disk`` bytes of disk."""
    context = GPU_CONTEXT if means.on_gpu else CONTEXT
    logs = 0 if means.on_gpu else min(LOGS_MOST, budget // LOGS_PART)
    room = Room(
        cap=budget - logs, free=budget - logs, disk=disk, context=context, workspace=_workspace(config)
    )
    return Fitting(costs(config, means.form(stored=stored, tied=tied)), room, Wish())


def weights_of(fitting: Fitting) -> list[float]:
    """What each layer costs, a block one."""
    block = fitting.table[len(fitting.table) // 2].seconds
    return [cost.seconds / block for cost in fitting.table]


def whole(fitting: Fitting) -> Place | None:
    """The whole model, where it fits: then nobody's records matter."""
    span = Span(0, len(fitting.table))
    return _place(fitting.fit(span)) if fitting.fits(span) else None


def place(
    fitting: Fitting,
    records: Collection[Record],
    me: PeerId,
    now: float,
    chance: random.Random,
    *,
    here: Collection[int] = (),
    opinion: Opinion = STRANGERS,
    others_ends: Ends | None = None,
) -> Place:
    """The span to serve beside the others that ``records`` tell of; ``here`` are layers that need not be
    fetched. A donor that comes back takes what it has again, unless moving would pay. Raises
    ``TooLittle``."""
    fitting.check()
    # What the last life of this donor announced says nothing of this one.
    others = [record for record in records if record.peer_id != me]
    weights = weights_of(fitting)
    seen = levels(others, len(fitting.table), me, now, opinion, ends=others_ends, weights=weights)
    ends = fitting.ends()
    on_disk = _longest_run(here)
    before = _again(fitting, ends, here)
    hand = Hand(fitting.table, ends, serving=before, on_disk=on_disk)
    # Nobody counts on a donor that has not come back yet, so it need not wait for its turn.
    lot = turn(me, int(now // WINDOW_SECONDS)) if before is None else -1.0
    choice = choose(seen if before is None else _free_to_go(seen), hand, lot, chance)
    assert choice is not None, "a layer fits: it was checked"
    return _place(fitting.fit(choice.span))


@dataclass(frozen=True)
class Around:
    """The swarm as a donor that serves sees it, itself included, at Unix time ``now``."""

    records: Collection[Record]
    me: PeerId
    now: float
    opinion: Opinion = STRANGERS
    ends: Ends | None = None
    alone: bool = False
    """Others were expected to move, and did not: nobody is counted on."""

    def levels(self, fitting: Fitting) -> Levels:
        weights, layers = weights_of(fitting), len(fitting.table)
        return levels(self.records, layers, self.me, self.now, self.opinion, ends=self.ends, weights=weights)


Look = Callable[[], Awaitable[Around]]
"""Reads the swarm's records anew."""


def elsewhere(
    fitting: Fitting, around: Around, serving: Span, here: Collection[int], chance: random.Random
) -> Choice:
    """Where a donor that serves, or is on its way to serve, ``serving`` should be: there, or elsewhere."""
    seen = replace(around.levels(fitting), alone=around.alone)
    hand = Hand(fitting.table, fitting.ends(), serving=serving, on_disk=_longest_run(here))
    lot = turn(around.me, int(around.now // WINDOW_SECONDS))
    return choose(seen, hand, lot, chance) or Choice(serving, Why.KEEP)


async def may_leave(
    fitting: Fitting, look: Look, serving: Span, goal: Span, read: ReadOver, *, known: bool = True
) -> bool:
    """Whether nobody needs this donor any more for what it would drop: others' records say so, and a few
    words can be read without it. The records are looked at anew after that, since it takes a while."""
    around = await look()
    seen = around.levels(fitting)
    if not may_go(seen, serving, goal, known=known):
        return False
    if may_go(seen, serving, goal, known=False):  # nobody is served
        return True
    there = await read(left_to_others(seen, around.records, serving, goal))
    return may_go(among((await look()).levels(fitting), there), serving, goal)


def _free_to_go(seen: Levels) -> Levels:
    """The levels for one who serves nothing yet: it leaves nobody without a layer, wherever it goes, but
    goes back to where it alone was."""
    return replace(seen, steady=seen.held, limit=max(seen.limit, 0.0))


def _again(fitting: Fitting, ends: Collection[int], here: Collection[int]) -> Span | None:
    """The longest fitting span most of which is here."""
    if not here:
        return None
    known = set(here)
    spans = [Span(start, end) for start, end in enumerate(ends) if end > start]

    def missing(span: Span) -> int:
        lack = (layer for layer in range(span.start, span.end) if layer not in known)
        return sum(fitting.table[layer].disk for layer in lack)

    best = min(spans, key=lambda span: (missing(span), -len(span), span.start))
    need = sum(cost.disk for cost in fitting.table[best.start : best.end])
    return best if missing(best) <= SETTLED * need else None


def _longest_run(layers: Collection[int]) -> Span | None:
    best: Span | None = None
    start = None
    for layer in sorted(layers):
        start = layer if start is None or layer - 1 not in layers else start
        if best is None or layer + 1 - start > len(best):
            best = Span(start, layer + 1)
    return best


def _place(fit: Fit) -> Place:
    return Place(fit.span, fit.cache_tokens)
