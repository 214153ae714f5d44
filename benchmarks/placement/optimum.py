"""What a swarm's donors carry together, and the most that they could."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import product

import numpy as np
from scipy.optimize import linprog  # type: ignore[import-untyped]
from scipy.sparse import coo_array, vstack  # type: ignore[import-untyped]

from benchmarks.placement.donors import BLOOM, FORM, LAYERS, Card, table_and_ends
from core.model.cost import costs
from core.terms import Span

WEIGHTS = np.array([cost.seconds for cost in costs(BLOOM, FORM, bytes_a_second=1.0)])
"""Bytes that a token's step reads in each layer."""


def throughput(held: Sequence[tuple[Span, float]]) -> float:
    """Tokens a second that these donors (span, bytes a second) carry when readers share the work out as
    well as it can be: the largest T such that every layer does T steps a second (a linear program)."""
    groups: dict[Span, float] = {}
    for span, speed in held:
        groups[span] = groups.get(span, 0.0) + speed
    pairs = [(g, layer) for g, span in enumerate(groups) for layer in range(span.start, span.end)]
    if not pairs or len({layer for _, layer in pairs}) < LAYERS:
        return 0.0
    scale = sum(groups.values()) / WEIGHTS.sum()
    columns = np.arange(len(pairs))
    owner, layer = np.array(pairs).T
    work = coo_array((WEIGHTS[layer] / WEIGHTS.mean(), (owner, columns)), (len(groups), len(pairs) + 1))
    rows, cells = (
        np.concatenate([layer, np.arange(LAYERS)]),
        np.concatenate([columns, np.full(LAYERS, len(pairs))]),
    )
    sums = coo_array(
        (np.concatenate([-np.ones(len(pairs)), np.ones(LAYERS)]), (rows, cells)), (LAYERS, len(pairs) + 1)
    )
    able = np.array(list(groups.values())) / (scale * WEIGHTS.mean())
    target = np.zeros(len(pairs) + 1)
    target[-1] = -1.0
    bound = np.concatenate([able, np.zeros(LAYERS)])
    found = linprog(target, A_ub=vstack([work, sums]).tocsr(), b_ub=bound, method="highs")
    return float(-found.fun * scale) if found.success else 0.0


def bound(cards: Sequence[Card]) -> float:
    """No placement carries more: at T steps a second a card does T times the weight of as much as it can
    hold at most, or as much as it is fast enough for. 0 where the cards cannot hold the model."""
    if not can_hold(cards):
        return 0.0
    works = np.array([card.speed for card in cards])
    largest = np.array([_largest(card) for card in cards])
    low, high = 0.0, float(works.sum() / WEIGHTS.sum())
    for _ in range(40):
        middle = (low + high) / 2
        enough = np.minimum(largest * middle, works).sum() >= WEIGHTS.sum() * middle
        low, high = (middle, high) if enough else (low, middle)
    return high


def speed(cards: Sequence[Card]) -> float:
    """Tokens a second if all these cards did nothing but read weights, wherever they are needed: memory
    would have to be no matter."""
    return float(sum(card.speed for card in cards) / WEIGHTS.sum())


@cache
def _largest(card: Card) -> float:
    """The most weight that a span of this card has."""
    ends = table_and_ends(card).ends
    return max(float(WEIGHTS[start:end].sum()) for start, end in enumerate(ends))


def can_hold(cards: Sequence[Card]) -> bool:
    """Whether any placement holds every layer. Exact: the farthest that some of the cards reach from the
    first layer without a gap, for each choice of how many of each kind."""
    kinds = list(dict.fromkeys(cards))
    return _reaches(tuple(kinds), tuple(cards.count(kind) for kind in kinds))


@lru_cache(maxsize=4096)
def _reaches(kinds: tuple[Card, ...], counts: tuple[int, ...]) -> bool:
    most = [max(end - start for start, end in enumerate(table_and_ends(kind).ends)) for kind in kinds]
    least = [min(end - start for start, end in enumerate(table_and_ends(kind).ends)) for kind in kinds]
    if sum(a * n for a, n in zip(most, counts, strict=True)) < LAYERS:
        return False
    if sum(max(a - 1, 0) * n for a, n in zip(most, counts, strict=True)) > LAYERS + 4 * max(most):
        return min(least) > 0
    reached: dict[tuple[int, ...], int] = {(0,) * len(kinds): 0}
    for used in product(*(range(count + 1) for count in counts)):
        best = 0
        for index, kind in enumerate(kinds):
            if used[index]:
                before = reached[(*used[:index], used[index] - 1, *used[index + 1 :])]
                best = max(best, before, table_and_ends(kind).ends[before])
        if best >= LAYERS:
            return True
        reached[used] = max(best, reached.get(used, 0))
    return False
