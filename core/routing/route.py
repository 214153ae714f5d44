"""Which donors, in which order: the route with the lowest predicted time a token. Pure.

The model's revision is a hard condition (records of another are not of this model); how a donor has quantized
it is a preference.

A stage may use any part of a donor's span, so changes from donor to donor happen at the boundaries of
spans. A dynamic program over those boundaries keeps, for each boundary and donor, the best way to
have covered everything before it. Time a token = compute of the stages + one-way delays between
neighbours, the tail's way back to the entry included + activations / upload of who sends them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from core.errors import NoDonor
from core.terms import DonorState, PeerId, Record, Route, Span, Stage

LAYER_SECONDS = 0.001
"""Assumed for a donor that has not measured itself yet."""
FASTEST = 1e-6
"""No layer takes less, whatever is claimed."""
STAGE_SECONDS = 0.0005
"""What a stage costs besides compute and delay: frames, threads, sampling."""
UPLOAD_RATE = 100e6 / 8
"""Bytes a second, assumed of a donor that has not measured its upload yet."""
SPREAD = 0.01
"""Donors that differ by less are equal, and readers spread over them by chance."""

LOSSY = {"none": 1.0, "int8": 1.03, "nf4": 1.1}
"""How many times slower a donor counts for what its weights have lost: of near equals, the better text is
taken. A kind that is not known here counts as the worst."""
ANOTHER = 1.2
"""And where it would replace one of another kind, better or not: the text goes on as it was begun."""

Delay = Callable[[PeerId, PeerId], float]
Load = Callable[[Record], float]
"""How many times slower a donor is taken to be for what else it does; 1 for nothing."""


@dataclass(frozen=True, slots=True)
class _Path:
    seconds: float
    stages: tuple[Stage, ...]


def no_delay(_from: PeerId, _to: PeerId) -> float:
    return 0.0


def no_load(_record: Record) -> float:
    return 1.0


def missing(records: Iterable[Record], layers: int) -> tuple[Span, ...]:
    """The layers that no donor is online for, as spans."""
    covered = [False] * layers
    for record in records:
        if record.state is DonorState.ONLINE:
            for layer in range(record.span.start, min(record.span.end, layers)):
                covered[layer] = True
    holes: list[Span] = []
    start: int | None = None
    for layer, held in enumerate([*covered, True]):
        if not held and start is None:
            start = layer
        elif held and start is not None:
            holes.append(Span(start, layer))
            start = None
    return tuple(holes)


def plan(
    records: Collection[Record],
    layers: int,
    *,
    delay: Delay = no_delay,
    row_bytes: int = 0,
    load: Load = no_load,
    avoid: Collection[PeerId] = (),
    chance: random.Random | None = None,
) -> Route:
    """The best route over donors that are online and not avoided. A token's activations have
    ``row_bytes``. ``load`` and ``chance`` spread readers over equal donors; without chance the plan is a
    function of its arguments. Raises ``NoDonor``."""
    able = _able(records, layers, avoid)
    holes = missing(able, layers)
    if holes:
        raise NoDonor(holes)
    paths = _cover(able, Span(0, layers), _Costs(delay, row_bytes, load, chance))
    path = min(paths.values(), key=lambda path: path.seconds + _way_back(path.stages, delay))
    return Route(path.stages, predict(path.stages, able, delay, row_bytes))


def mend(
    route: Route,
    records: Collection[Record],
    layers: int,
    *,
    delay: Delay = no_delay,
    row_bytes: int = 0,
    load: Load = no_load,
    avoid: Collection[PeerId] = (),
    chance: random.Random | None = None,
) -> Route:
    """The same route with other donors where its own are avoided or gone: what stays keeps its caches.
    Raises ``NoDonor``."""
    able = _able(records, layers, avoid)
    costs = _Costs(delay, row_bytes, load, chance)
    spans = {record.peer_id: record.span for record in able}
    stages: list[Stage] = []
    gap: Span | None = None
    kinds = {record.peer_id: record.quantization for record in records}
    lost: set[str] = set()
    for stage in route.stages:
        stays = stage.peer_id in spans and stage.span in spans[stage.peer_id]
        if stays and gap is not None:
            stages += _fill(able, gap, replace(costs, kinds=frozenset(lost)))
            gap, lost = None, set()
        if stays:
            stages.append(stage)
        else:
            lost |= {kinds[stage.peer_id]} if stage.peer_id in kinds else set()
            gap = Span(gap.start if gap is not None else stage.span.start, stage.span.end)
    if gap is not None:
        stages += _fill(able, gap, replace(costs, kinds=frozenset(lost)))
    return Route(tuple(stages), predict(stages, able, delay, row_bytes))


def predict(
    stages: Sequence[Stage], records: Iterable[Record], delay: Delay = no_delay, row_bytes: int = 0
) -> float:
    """Seconds a token over these stages."""
    by_peer = {record.peer_id: record for record in records}
    compute = sum(layer_seconds(by_peer[s.peer_id]) * len(s.span) + STAGE_SECONDS for s in stages)
    hops = sum(
        delay(one.peer_id, other.peer_id) + _sending(by_peer[one.peer_id], row_bytes)
        for one, other in pairwise(stages)
    )
    return compute + hops + _way_back(stages, delay)


def _able(records: Iterable[Record], layers: int, avoid: Collection[PeerId]) -> list[Record]:
    return [
        r for r in records if r.state is DonorState.ONLINE and r.peer_id not in avoid and r.span.end <= layers
    ]


@dataclass(frozen=True, slots=True)
class _Costs:
    delay: Delay
    row_bytes: int
    load: Load
    chance: random.Random | None
    kinds: frozenset[str] = frozenset()
    """How those that are replaced had quantized, where that is known."""

    def weight(self, record: Record) -> float:
        """What a donor's compute is multiplied with."""
        luck = self.chance.uniform(0, SPREAD) if self.chance else 0.0
        another = ANOTHER if self.kinds and record.quantization not in self.kinds else 1.0
        lossy = LOSSY.get(record.quantization, max(LOSSY.values()))
        return self.load(record) * lossy * another * (1 + luck)


def _fill(able: Collection[Record], gap: Span, costs: _Costs) -> tuple[Stage, ...]:
    paths = _cover(able, gap, costs)
    if not paths:
        holes = [
            Span(max(h.start, gap.start), min(h.end, gap.end))
            for h in missing(able, gap.end)
            if h.end > gap.start
        ]
        raise NoDonor(holes)
    return min(paths.values(), key=lambda path: path.seconds).stages


def _cover(able: Collection[Record], part: Span, costs: _Costs) -> dict[PeerId, _Path]:
    """The cheapest ways to cover ``part``, by the peer that each ends at."""
    weight = {record.peer_id: costs.weight(record) for record in able}
    sending = {record.peer_id: _sending(record, costs.row_bytes) for record in able}
    cuts = sorted(
        {part.start, part.end}
        | {cut for r in able for cut in (r.span.start, r.span.end) if part.start < cut < part.end}
    )
    search = _Search(cuts, weight, sending, costs.delay, {cut: {} for cut in cuts})
    for cut in cuts[:-1]:
        for record in able:
            if record.span.start <= cut < record.span.end:
                search.extend(cut, record)
    return search.best[part.end]


def _way_back(stages: Sequence[Stage], delay: Delay) -> float:
    return delay(stages[-1].peer_id, stages[0].peer_id) if len(stages) > 1 else 0.0


def layer_seconds(record: Record) -> float:
    """What one step takes in one layer, as claimed."""
    return max(record.step_seconds / len(record.span) or LAYER_SECONDS, FASTEST)


def _sending(record: Record, row_bytes: int) -> float:
    """Seconds that a token's activations take to leave."""
    return row_bytes / (record.upload_rate or UPLOAD_RATE)


@dataclass(frozen=True, slots=True)
class _Search:
    """``best[cut][peer]`` is the cheapest way found to cover all layers below ``cut``, ending at
    ``peer``."""

    cuts: list[int]
    weight: dict[PeerId, float]
    sending: dict[PeerId, float]
    delay: Delay
    best: dict[int, dict[PeerId, _Path]]

    def extend(self, cut: int, record: Record) -> None:
        """Lets ``record`` take over at ``cut``, up to every later boundary inside its span."""
        me = record.peer_id
        if cut == self.cuts[0]:
            before = _Path(0.0, ())
        else:
            ways = [
                _Path(path.seconds + self.sending[peer] + self.delay(peer, me), path.stages)
                for peer, path in self.best[cut].items()
                if peer != me
            ]
            if not ways:
                return
            before = min(ways, key=lambda way: (way.seconds, len(way.stages)))
        layer = layer_seconds(record) * self.weight[me]
        for end in self.cuts:
            if cut < end <= record.span.end:
                seconds = before.seconds + STAGE_SECONDS + layer * (end - cut)
                self._keep(end, me, _Path(seconds, (*before.stages, Stage(me, Span(cut, end)))))

    def _keep(self, cut: int, peer: PeerId, path: _Path) -> None:
        known = self.best[cut].get(peer)
        if known is None or path.seconds < known.seconds:
            self.best[cut][peer] = path
