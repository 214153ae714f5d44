"""What a swarm's donors carry together, and the most that they could."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp  # type: ignore[import-untyped]
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


def even_use(held: Sequence[tuple[Span, float]]) -> float:
    """The weakest layer's steps a second when each donor only ever runs its whole span."""
    rates = np.zeros(LAYERS)
    for span, speed in held:
        rates[span.start : span.end] += speed / WEIGHTS[span.start : span.end].sum()
    return float(rates.min())


def bound(cards: Sequence[Card]) -> float:
    """No placement carries more: all work of all cards, evenly over all layers."""
    return float(sum(card.speed for card in cards) / WEIGHTS.sum())


def exact(cards: Sequence[Card], seconds: float = 60.0) -> tuple[float, bool]:
    """The best throughput of any placement, and whether the search ended: else it is the bound that the
    search had reached. A mixed-integer program: cards of a kind are counted, not told apart."""
    kinds = list(dict.fromkeys(cards))
    spans = [
        (kind, Span(start, end))
        for kind in kinds
        for start, end in enumerate(table_and_ends(kind).ends)
        # A span that lies within another of the same card is never better.
        if end > start and (start == 0 or end > table_and_ends(kind).ends[start - 1])
    ]
    scale = bound(cards)
    pairs = [(g, layer) for g, (_, span) in enumerate(spans) for layer in range(span.start, span.end)]
    owner, layer = np.array(pairs).T
    count, width = len(spans), len(spans) + len(pairs) + 1
    at = count + np.arange(len(pairs))
    unit = WEIGHTS.mean() * scale
    speeds = np.array([kind.speed for kind, _ in spans]) / unit
    work = coo_array(
        (
            np.concatenate([WEIGHTS[layer] / WEIGHTS.mean(), -speeds]),
            (np.concatenate([owner, np.arange(count)]), np.concatenate([at, np.arange(count)])),
        ),
        (count, width),
    )
    sums = coo_array(
        (
            np.concatenate([np.ones(len(pairs)), -np.ones(LAYERS)]),
            (np.concatenate([layer, np.arange(LAYERS)]), np.concatenate([at, np.full(LAYERS, width - 1)])),
        ),
        (LAYERS, width),
    )
    of_kind = coo_array(
        (np.ones(count), ([kinds.index(kind) for kind, _ in spans], np.arange(count))), (len(kinds), width)
    )
    numbers = [cards.count(kind) for kind in kinds]
    target, whole = np.zeros(width), np.zeros(width)
    target[-1], whole[:count] = -1.0, 1.0
    found = milp(
        target,
        constraints=[
            LinearConstraint(work.tocsr(), ub=0.0),
            LinearConstraint(sums.tocsr(), lb=0.0),
            LinearConstraint(of_kind.tocsr(), ub=numbers),
        ],
        integrality=whole,
        bounds=Bounds(0, np.inf),
        options={"time_limit": seconds, "mip_rel_gap": 0.01},
    )
    best = found.mip_dual_bound if found.mip_dual_bound is not None else -1.0
    return min(-float(best), 1.0) * scale, found.status == 0
